"""Starting a training again: it continues with the same settings only, and a finished one takes seconds."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from rich.console import Console

from verl_axpo import launch, training_folder
from verl_axpo.check import Command, check, compose, parse
from verl_axpo.lock import FolderInUseError


@pytest.fixture
def argv(tmp_path: Path) -> list[str]:
    pq.write_table(pa.table({"prompt": ["a"], "data_source": ["tiny"], "reward_model": ["c"]}), tmp_path / "rl.parquet")
    files = [f"data.{split}_files={tmp_path}/rl.parquet" for split in ("train", "val")]
    folder = f"trainer.default_local_dir={tmp_path}/run/checkpoints"
    return ["python", "-m", "verl.trainer.main_ppo", "--config-name", "tiny_rl", *files, folder,
            "actor_rollout_ref.model.path=/m", "actor_rollout_ref.rollout.multi_turn.tool_config_path=/t"]  # fmt: skip


def command_of(argv: list[str]) -> Command:
    command = parse(argv)
    assert command is not None
    return command


def config_of(argv: list[str]) -> Any:
    return compose(command_of(argv))


def start(argv: list[str], trained: int, finished: bool) -> bool:
    """Whether `is_finished`, after the same command has trained to a step."""
    config = config_of(argv)
    folder = Path(config.trainer.default_local_dir)
    training_folder.begin(folder, training_folder.settings_of(config, "rl"), config, "rl")
    if finished:
        training_folder.finish(folder, training_folder.settings_of(config, "rl"), config)
    (folder / training_folder.LATEST).write_text(str(trained))
    return again(argv)


def again(argv: list[str]) -> bool:
    config = config_of(argv)
    settings = training_folder.settings_of(config, "rl")
    return training_folder.is_finished(Path(config.trainer.default_local_dir), settings, config, command_of(argv))


def test_a_new_folder_is_not_finished(argv: list[str]) -> None:
    assert again(argv) is False


def test_a_finished_training_is_done_and_a_killed_one_continues(argv: list[str]) -> None:
    assert start(argv, trained=40, finished=True) is True
    assert start(argv, trained=20, finished=False) is False


def test_more_steps_train_further_and_fewer_are_refused(argv: list[str]) -> None:
    start(argv, trained=40, finished=True)
    assert again([*argv, "trainer.total_training_steps=60"]) is False
    with pytest.raises(ValueError, match=r"trained to step 40; ask for that many STEPS or more"):
        again([*argv, "trainer.total_training_steps=20"])


@pytest.mark.parametrize("override", ["data.seed=1", "algorithm.axpo.budget=0", "actor_rollout_ref.model.path=/other"])
def test_other_settings_are_refused_by_name(argv: list[str], override: str) -> None:
    start(argv, trained=2, finished=False)
    key = override.split("=")[0]
    with pytest.raises(ValueError, match=rf"begun with other settings or data:\n(.*\n)*  {key}: .* then, .* now"):
        again([*argv, override])


@pytest.mark.parametrize(
    "override", ["trainer.save_freq=1", "trainer.logger=[console]", "ray_kwargs.ray_init.num_cpus=8"]
)
def test_what_changes_no_result_is_not_held_against_a_run(argv: list[str], override: str) -> None:
    start(argv, trained=2, finished=False)
    assert again([*argv, override]) is False


def test_a_key_that_came_with_a_later_version_is_held_against_a_run_only_where_the_command_sets_it(
    argv: list[str], tmp_path: Path
) -> None:
    start(argv, trained=2, finished=False)
    record = tmp_path / "run/checkpoints" / training_folder.SETTINGS
    began = orjson.loads(record.read_bytes())
    for key in ("algorithm.axpo.max_failed_share", "actor_rollout_ref.actor.ppo_epochs"):
        del began["settings"][key]  # as a version wrote it that did not have these keys
    record.write_bytes(orjson.dumps(began))
    assert again(argv) is False
    with pytest.raises(ValueError, match=r"max_failed_share: None then, 0\.5 now"):
        again([*argv, "algorithm.axpo.max_failed_share=0.5"])
    with pytest.raises(ValueError, match=r"data\.seed: 0 then, 1 now\nUndo"):  # a changed value, and no new key
        again([*argv, "data.seed=1"])


def test_a_dry_run_refuses_what_the_run_would_refuse(argv: list[str]) -> None:
    """Fewer steps than are trained, other settings; a folder that `verl-axpo run` did not begin is the user's."""

    def told(*overrides: str) -> list[str]:
        findings = check([*argv, *overrides], made=[Path("/")], machine=False)
        return [finding.found for finding in findings if finding.name == "trainer.default_local_dir"]

    start(argv, trained=40, finished=True)
    assert told() == []
    assert "is trained to step 40; ask for that many STEPS or more" in told("trainer.total_training_steps=20")[0]
    assert "data.seed: 0 then, 1 now" in told("data.seed=1")[0]
    (Path(config_of(argv).trainer.default_local_dir) / training_folder.SETTINGS).unlink()
    assert told("data.seed=1") == []


def test_other_data_in_the_same_file_are_refused(argv: list[str], tmp_path: Path) -> None:
    start(argv, trained=2, finished=False)
    pq.write_table(pa.table({"prompt": ["b"], "data_source": ["tiny"], "reward_model": ["c"]}), tmp_path / "rl.parquet")
    with pytest.raises(ValueError, match=r"data\.train_files"):
        again(argv)


def test_another_epoch_is_not_done_yet(argv: list[str]) -> None:
    """Without a number of steps; RL's rate does not follow their number."""
    one, two = (f"trainer.total_epochs={epochs}" for epochs in (1, 2))
    argv = [*argv, "trainer.total_training_steps=null"]
    assert start([*argv, one], trained=7, finished=True) is True
    assert again([*argv, two]) is False
    assert again([*argv, one]) is True
    by_steps = [*argv[:-1], "trainer.total_training_steps=5", "trainer.total_epochs=1000"]
    assert start(by_steps, trained=5, finished=True) is True
    assert again([*argv, one]) is False  # five steps are no epoch


def test_sft_does_not_go_on_with_another_number_of_epochs(tmp_path: Path) -> None:
    """Its rate follows the number of steps, so the epochs before would have had another."""
    base = ["torchrun", "-m", "verl.trainer.sft_trainer", "--config-name", "tiny_sft", "model.path=/m",
            f"data.train_files={tmp_path}/sft.parquet", "trainer.total_training_steps=null",
            f"trainer.default_local_dir={tmp_path}/steps"]  # fmt: skip
    one, two = ([*base, f"trainer.total_epochs={epochs}"] for epochs in (1, 2))
    folder, config = tmp_path / "steps", config_of(one)
    training_folder.begin(folder, training_folder.settings_of(config, "sft"), config, "sft")
    settings = training_folder.settings_of(config_of(two), "sft")
    [objection] = training_folder.objections(folder, settings, config_of(two), command_of(two))
    assert "trainer.total_epochs: 1 then, 2 now" in objection


def test_checkpoints_of_unknown_settings_are_refused(argv: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run/checkpoints"
    folder.mkdir(parents=True)
    (folder / training_folder.LATEST).write_text("3")
    with pytest.raises(ValueError, match=r"has checkpoints but no settings\.json"):
        again(argv)


def test_checkpoints_that_a_new_start_cannot_use_are_removed(argv: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run/checkpoints"
    for step in (10, 20, 30):
        (folder / f"global_step_{step}").mkdir(parents=True)
    (folder / training_folder.LATEST).write_text("20")  # 30 was being written when the run was killed
    config = config_of(argv)
    training_folder.begin(folder, {}, config, "rl")
    assert [path.name for path in folder.glob("global_step_*")] == ["global_step_20"]
    OmegaConf.update(config, "trainer.resume_mode", "resume_path")
    (folder / "global_step_10").mkdir()
    training_folder.begin(folder, {}, config, "rl")
    assert (folder / "global_step_10").exists()  # the user named the checkpoint


def test_any_other_command_runs_as_it_is(tmp_path: Path) -> None:
    assert launch.run(["bash", "-c", "exit 7"], "it", tmp_path / "log", Console()) == 7


def test_a_command_that_cannot_train_does_not_start(argv: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no_such_key.*\n.*remove or correct 'data.no_such_key=1'"):
        launch.run([*argv, "data.no_such_key=1"], "it", tmp_path / "log", Console())
    assert launch.run(argv, "it", tmp_path / "log", Console()) == 1  # the model is not there
    assert not (tmp_path / "log").exists()


def test_a_folder_that_a_training_owns_is_not_touched(argv: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run/checkpoints"
    (folder / "global_step_7").mkdir(parents=True)  # it is being written
    code = f"import sys; from verl_axpo import lock; lock.own({str(folder)!r}); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        with pytest.raises(FolderInUseError, match=rf"belongs to another run, pid {owner.pid}"):
            launch.lock.own(folder)
        owner.communicate()
    assert (folder / "global_step_7").exists()
