"""Rollouts of other weights step aside and are kept; those of the same weights stay."""

from pathlib import Path

import orjson
import pytest

from verl_axpo.eval.weights import weights_hash
from verl_axpo.preflight.aside import step_aside


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"first")
    return folder


def evaluation(run: Path, weights: str | None) -> Path:
    run.mkdir()
    (run / "manifest.json").write_bytes(orjson.dumps({"settings": {"weights": weights}}))
    (run / "rollouts.jsonl").write_text("a day of work\n")
    return run


def test_a_checkpoint_that_was_trained_on_gets_a_new_folder(tmp_path: Path, checkpoint: Path) -> None:
    for number in (1, 2):
        run = evaluation(tmp_path / "eval", weights_hash(checkpoint))
        assert step_aside(run, checkpoint) is None
        (checkpoint / "model.safetensors").write_bytes(b"trained" * number)
        assert step_aside(run, checkpoint) == tmp_path / f"eval.{number}"
        assert not run.exists()
        assert (tmp_path / f"eval.{number}/rollouts.jsonl").read_text() == "a day of work\n"


def test_what_is_not_there_needs_no_place(tmp_path: Path, checkpoint: Path) -> None:
    assert step_aside(tmp_path / "eval", checkpoint) is None
    (tmp_path / "eval").mkdir()  # begun, and nothing written
    assert step_aside(tmp_path / "eval", checkpoint) is None
    assert (tmp_path / "eval").exists()
