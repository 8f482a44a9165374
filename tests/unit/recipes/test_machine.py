"""What a recipe asks of the machine: each requirement met and not met, with its fix."""

import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from omegaconf import OmegaConf

from tests.unit.recipes.conftest import Checkpoints
from verl_axpo import doctor
from verl_axpo.preflight import machine, services
from verl_axpo.preflight.check import Report
from verl_axpo.preflight.memory import GIB, Phase, Term
from verl_axpo.preflight.problems import Finding
from verl_axpo.preflight.sizes import Sizes
from verl_axpo.preflight.stages import Stage

EIGHT = [(79.2, 0.5)] * 8


def training(**values: object) -> Report:
    stage = Stage(name="axpo", kind="rl", argv=("python",), gpu_gib=79.0)
    model = {"override_config": {"attn_implementation": "flash_attention_2"}}
    config = {
        "trainer": {"nnodes": 2, "n_gpus_per_node": 8, "max_actor_ckpt_to_keep": 2, "save_freq": 10},
        "actor_rollout_ref": {"model": model},
    }
    phases = (Phase(name="update", terms=(Term("all", 60.0),)),)
    return replace(Report(stage=stage, config=OmegaConf.create(config), phases=phases), **values)  # type: ignore[arg-type]


def red(findings: Iterator[Finding]) -> list[tuple[str, str]]:
    return [(one.found, one.fix) for one in findings if not one.ok]


def test_gpus_of_one_node_are_counted_measured_and_free() -> None:
    assert red(machine.check_gpus([training()], EIGHT)) == []
    ((found, fix),) = red(machine.check_gpus([training()], EIGHT[:4]))
    assert (found, "set GPUS" in fix) == ("4 here, 8 wanted on this node", True)
    ((found, fix),) = red(machine.check_gpus([training()], [(39.4, 0.0)] * 8))
    assert found == "39.4 GiB on the smallest GPU, the plan needs about 60.0"
    assert "GPU_GIB=39" in fix
    ((found, _),) = red(machine.check_gpus([training()], [*EIGHT[:7], (79.2, 30.0)]))
    assert found == "[7] are in use by other processes"


def test_nodes_of_a_cluster_are_counted_if_they_have_enough_gpus() -> None:
    assert machine.check_nodes([training()], [8.0, 8.0, 0.0]).ok
    finding = machine.check_nodes([training()], [8.0, 4.0, 0.0])  # a head without GPUs, and half a node
    assert (finding.ok, finding.found) == (False, "1 nodes with 8 GPUs, 2 wanted")


def test_a_recipe_without_gpus_asks_for_none() -> None:
    tiny = training(stage=Stage(name="axpo", kind="rl", argv=("python",)))
    assert list(machine.check_gpus([tiny], [])) == []


def test_flash_attention_is_asked_for_only_where_a_config_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    ((found, fix),) = red(machine.check_attention([training()]))
    assert "not installed" in found
    assert "flash-attn==2.8.3" in fix
    assert list(machine.check_attention([training(config=OmegaConf.create({"trainer": {}}))])) == []


def test_host_memory() -> None:
    sft = training(host=Phase(name="host", terms=(Term("moments kept off the GPUs", 90.0),)))
    rl = training(
        host=Phase(name="host", terms=(Term("moments kept off the GPUs", 40.0), Term("images of rows", 100.0)))
    )
    assert red(machine.check_host_memory([sft, rl], 200.0)) == []
    ((found, fix),) = red(machine.check_host_memory([sft, rl], 64.0))
    assert found == "64 GiB, the plan needs about 140"
    assert "lower BATCH, or use more nodes (now: images of rows, 100 GiB)" in fix
    ((_, fix),) = red(machine.check_host_memory([sft], 64.0))
    assert "more GPUs and OFFLOAD=False" in fix


LONG = Sizes(rows=0, counted=False, steps=145, tokens_per_step=0)


def test_disk_has_room_for_all_stages_together(tmp_path: Path) -> None:
    stage = Stage(name="data", kind="command", argv=("true",), makes=(str(tmp_path / "not/yet"),), disk_gib=0.001)
    assert red(machine.check_disk([Report(stage=stage)])) == []
    huge = Report(stage=replace(stage, disk_gib=4e8))
    run = training(stage=replace(stage, kind="rl", name="axpo", disk_gib=0.0), checkpoint_gib=1e8, sizes=LONG)
    ((found, fix),) = red(machine.check_disk([huge, run]))
    # 4e8 of data, and two checkpoints of 1e8: verl deletes the older of two before it writes
    assert found.endswith(f"free at {tmp_path}, about 600000000 wanted")
    assert "OUT and DATA" in fix


def test_what_a_resumed_stage_has_written_is_not_wanted_again(tmp_path: Path) -> None:
    free = psutil.disk_usage(str(tmp_path)).free / GIB
    stage = Stage(name="axpo", kind="rl", argv=("true",), makes=(str(tmp_path / "run"),), disk_gib=free + 3)
    assert [one.ok for one in machine.check_disk([Report(stage=stage)])] == [False]
    (tmp_path / "run").mkdir()
    with (tmp_path / "run/checkpoint").open("wb") as sparse:
        sparse.truncate(2 << 30)
    (tmp_path / "run/exported").hardlink_to(tmp_path / "run/checkpoint")  # no second 2 GiB
    assert [one.ok for one in machine.check_disk([Report(stage=stage)])] == [False]
    assert [one.ok for one in machine.check_disk([Report(stage=replace(stage, disk_gib=free + 1))])] == [True]


def test_a_training_that_goes_on_writes_beside_its_last_checkpoint_in_the_room_of_the_others(
    tmp_path: Path, checkpoints: Checkpoints
) -> None:
    argv = checkpoints("rl", 30, 40, latest=40)
    with (tmp_path / "steps/global_step_30/actor/more").open("wb") as sparse:
        sparse.truncate(1 << 40)  # 1024 GiB, which will be free
    stage = Stage(name="axpo", kind="rl", argv=argv, makes=(str(tmp_path),))
    (finding,) = machine.check_disk([training(stage=stage, checkpoint_gib=700.0, sizes=LONG)])
    assert finding.found.endswith("about 376 wanted")  # 2 x 700 - 1024; that of step 40 stays
    (finding,) = machine.check_disk([training(stage=stage, checkpoint_gib=500.0, sizes=LONG)])
    assert finding.found.endswith("about 0 wanted")


@pytest.mark.parametrize(
    ("kind", "trainer", "step", "count"),
    [
        ("rl", {"save_freq": 10, "max_actor_ckpt_to_keep": None}, 0, 15),  # 10, 20, ..., 140 and the end, 145
        ("rl", {"save_freq": 10, "max_actor_ckpt_to_keep": None}, 40, 11),  # 50, ..., 140, 145
        ("rl", {"save_freq": 10, "max_actor_ckpt_to_keep": 2}, 0, 2),
        ("rl", {"save_freq": 10, "max_actor_ckpt_to_keep": 2}, 140, 1),  # 145 is all that is left to save
        ("rl", {"save_freq": 10, "max_actor_ckpt_to_keep": 2}, 145, 0),
        ("rl", {"save_freq": 10, "max_actor_ckpt_to_keep": 1}, 0, 2),  # the old one goes behind the new one
        ("rl", {"save_freq": 5, "max_actor_ckpt_to_keep": None}, 0, 29),  # 145 is one of them
        ("rl", {"save_freq": -1, "max_actor_ckpt_to_keep": None}, 0, 0),
        ("sft", {"save_freq": -1, "max_ckpt_to_keep": None}, 0, 1),
        ("sft", {"save_freq": "after_each_epoch", "max_ckpt_to_keep": None}, 0, 3),  # 500 / 10: 50, 100, 145
    ],
)
def test_how_many_checkpoints_lie_there_at_once(kind: str, trainer: dict[str, object], step: int, count: int) -> None:
    config = OmegaConf.create({"trainer": trainer, "data": {"train_batch_size": 10}})
    report = training(config=config, sizes=replace(LONG, rows=500), stage=Stage(name=kind, kind=kind, argv=()))
    assert machine.checkpoints_at_once(report, step) == count


def test_keys_are_set_and_never_shown() -> None:
    stages = [Stage(name="a", kind="command", argv=("true",), env=("SEARCH_KEY",))] * 2
    ((found, fix),) = red(services.check_environment(stages, {}))
    assert (found, "export SEARCH_KEY=" in fix) == ("SEARCH_KEY is not set", True)
    (finding,) = services.check_environment(stages, {"SEARCH_KEY": "secret"})
    assert (finding.ok, finding.found) == (True, "SEARCH_KEY is set")


class Models(http.server.BaseHTTPRequestHandler):
    """`/v1/models` answers, everything else is 401."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/v1/models" else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing on the screen."""


@pytest.fixture
def address() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Models)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_servers_answer_or_not(address: str) -> None:
    urls = (f"{address}/v1", f"{address}/locked", "http://127.0.0.1:1/v1", "nonsense")
    stages = [Stage(name="a", kind="command", argv=("true",), servers=(url,)) for url in urls]
    findings = list(services.check_servers(stages))
    assert [one.ok for one in findings] == [True, True, False, False]
    assert findings[1].found == f"{address}/locked answers (401)"
    assert findings[2].found.startswith("http://127.0.0.1:1/v1: ")


def test_the_programs_of_a_command() -> None:
    served = ("env", "GPUS=8", "bash", "recipes/serve.sh", "Qwen/Model", "--", "env", "A=1", "verl-axpo", "data")
    assert services.programs_of(served) == {"bash", "curl", "python", "verl-axpo"}
    assert services.programs_of(("bash", "-c", "true")) == {"bash"}


def test_a_program_that_is_not_there() -> None:
    stages = [Stage(name="a", kind="command", argv=argv) for argv in (("bash", "x.sh"), ("no-such-trainer", "-m", "x"))]
    ((found, _),) = red(services.check_programs(stages))
    assert found == "not found: ['no-such-trainer']"


ZOOM = """tools:
  - class_name: verl_axpo.tools.image_zoom_in.ImageZoomIn
    config: {type: native, coord_mode: furlongs}
"""


def offering(path: Path, tools: str) -> Report:
    path.write_text(tools)
    rollout = {"multi_turn": {"tool_config_path": str(path)}}
    return training(config=OmegaConf.create({"actor_rollout_ref": {"rollout": rollout}}))


def test_tools_are_started_once_to_see_that_they_can(tmp_path: Path) -> None:
    shipped = offering(tmp_path / "tools.yaml", ZOOM.replace("furlongs", "relative_1000"))
    (finding,) = services.check_tools_start([shipped, shipped])
    assert finding.ok
    assert "image_zoom_in" in finding.found
    ((found, _),) = red(services.check_tools_start([offering(tmp_path / "wrong.yaml", ZOOM)]))
    assert "furlongs" in found


def test_stages_that_have_run_ask_for_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: iter(()))
    done = Stage(name="data", kind="command", argv=("no-such-program",), env=("NO_SUCH_KEY",), done=True)
    assert red(machine.check_machine([Report(stage=done)], ray=False)) == []
