"""Checkpoints that verl forgets: removed before a training starts again, and never one that is needed."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from verl.utils.checkpoint.checkpoint_manager import BaseCheckpointManager

from tests.unit.recipes.conftest import Checkpoints, checkpoint
from verl_axpo.preflight import leftovers
from verl_axpo.preflight.leftovers import flaw_of, leftovers_of, remove
from verl_axpo.preflight.memory import GIB
from verl_axpo.preflight.stages import Stage


def stage(kind: str, argv: tuple[str, ...]) -> Stage:
    return Stage(name=kind, kind=kind, argv=argv)


def steps(root: Path) -> list[int]:
    return sorted(int(one.name.removeprefix("global_step_")) for one in root.glob("global_step_*"))


def train(root: Path, *saves: int) -> list[int]:
    """One process of verl that saves at these steps and keeps two; how many lay there after each save."""
    manager = BaseCheckpointManager(model=None, optimizer=None)
    counts = []
    for step in saves:
        manager.ensure_checkpoint_capacity(2)
        manager.register_checkpoint(str(checkpoint(root / f"global_step_{step}/actor")), 2)
        (root / "latest_checkpointed_iteration.txt").write_text(str(step))
        counts.append(len(list(root.glob("global_step_*/actor"))))
    return counts


def test_a_start_again_leaves_the_last_one_only(
    tmp_path: Path, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
    argv, root = checkpoints("rl"), tmp_path / "steps"
    assert train(root, 10, 20, 30, 40) == [1, 2, 2, 2]
    # The folders of 10 and 20 stay behind, without their models; 30 is what nobody would ever delete
    assert steps(root) == [10, 20, 30, 40]
    assert "training goes on from step 40" in remove(leftovers_of(stage("rl", argv)))
    assert steps(root) == [40]
    assert train(root, 50, 60, 70) == [2, 3, 3]  # two of its own, beside the one that it went on from
    remove(leftovers_of(stage("rl", argv)))
    assert steps(root) == [70]


def test_supervised_training_has_no_folder_inside(tmp_path: Path, checkpoints: Checkpoints) -> None:
    argv = checkpoints("sft", 100, 200, latest=200)
    said = remove(leftovers_of(stage("sft", argv)))
    assert f"{tmp_path}/steps/global_step_100;" in said
    assert steps(tmp_path / "steps") == [200]
    assert remove(leftovers_of(stage("sft", argv))) == ""


def test_a_save_that_was_interrupted_goes(tmp_path: Path, checkpoints: Checkpoints) -> None:
    argv = checkpoints("rl", 10, 20, latest=10)  # killed while 20 was written
    remove(leftovers_of(stage("rl", argv)))
    assert steps(tmp_path / "steps") == [10]


@pytest.mark.parametrize(
    ("latest", "message"),
    [
        (None, "latest_checkpointed_iteration.txt is missing or names no step"),
        (30, "latest_checkpointed_iteration.txt names step 30, which is not there"),
    ],
)
def test_without_a_last_checkpoint_all_stay(
    tmp_path: Path, checkpoints: Checkpoints, latest: int | None, message: str
) -> None:
    argv = checkpoints("rl", 10, 20, latest=latest)
    assert message in remove(leftovers_of(stage("rl", argv)))
    assert steps(tmp_path / "steps") == [10, 20]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("optim_world_size_2_rank_1.pt", None),
        ("model_world_size_2_rank_0.pt", b""),
        ("model_world_size_2_rank_1.pt", "half"),
        ("fsdp_config.json", None),
        ("fsdp_config.json", b"{"),
        ("fsdp_config.json", b"[]"),
        ("fsdp_config.json", b'{"world_size": 0}'),
    ],
)
def test_beside_a_last_checkpoint_that_is_not_whole_all_stay(
    tmp_path: Path, checkpoints: Checkpoints, name: str, content: bytes | str | None
) -> None:
    argv, root = checkpoints("rl", 10, 20, latest=20), tmp_path / "steps"
    broken = root / "global_step_20/actor" / name
    whole = broken.read_bytes()
    broken.unlink()
    if content is not None:
        broken.write_bytes(whole[: len(whole) // 2] if isinstance(content, str) else content)
    said = remove(leftovers_of(stage("rl", argv)))
    assert said.startswith("no checkpoint is removed: ")
    assert name in said
    assert steps(root) == [10, 20]


@pytest.mark.parametrize(
    "override",
    [
        "trainer.max_actor_ckpt_to_keep=null",
        "trainer.resume_mode=disable",
        "trainer.resume_mode=resume_path",
        "++trainer.resume_from_path=steps/global_step_10",
    ],
)
def test_what_the_user_wants_otherwise_is_left_alone(tmp_path: Path, checkpoints: Checkpoints, override: str) -> None:
    argv = checkpoints("rl", 10, 20, latest=20)
    assert remove(leftovers_of(stage("rl", (*argv, override)))) == ""
    assert steps(tmp_path / "steps") == [10, 20]


def test_who_keeps_four_goes_on_with_the_three_newest_that_are_whole(tmp_path: Path, checkpoints: Checkpoints) -> None:
    argv, root = checkpoints("rl", 10, 20, 30, 40, 50, latest=50, keep="4"), tmp_path / "steps"
    (root / "global_step_40/actor/fsdp_config.json").unlink()
    remove(leftovers_of(stage("rl", argv)))
    assert steps(root) == [20, 30, 50]


def test_what_removing_frees(tmp_path: Path, checkpoints: Checkpoints) -> None:
    argv, root = checkpoints("rl", 10, 20, latest=20), tmp_path / "steps"
    before = leftovers_of(stage("rl", argv)).gib
    for name in ("weights", "exported"):
        with (root / f"global_step_10/{name}").open("wb") as sparse:
            sparse.truncate(2 * GIB)
    (tmp_path / "checkpoint").hardlink_to(root / "global_step_10/exported")  # as export.sh does; it stays
    assert leftovers_of(stage("rl", argv)).gib - before == pytest.approx(2)


def test_the_parts_of_a_checkpoint(tmp_path: Path) -> None:
    assert flaw_of(checkpoint(tmp_path / "whole", ranks=8)) == ""
    assert flaw_of(tmp_path) == f"{tmp_path}/fsdp_config.json is missing or broken"


def test_the_command_says_what_it_does(tmp_path: Path, checkpoints: Checkpoints) -> None:
    argv = [str(word) for word in checkpoints("sft", 1, 2, latest=2)]
    command = [sys.executable, "-m", leftovers.__name__]
    done = subprocess.run([*command, "sft", "--", "torchrun", "--standalone", *argv], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("removed what earlier starts left (0.0 GiB): ")
    assert steps(tmp_path / "steps") == [2]
    done = subprocess.run([*command, "ppo", "--", *argv], capture_output=True, text=True)
    assert done.returncode == 2
    assert "expected one of ['rl', 'sft']" in done.stderr
