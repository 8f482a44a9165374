"""Kills and full disks at every write of an evaluation: finished work stays, and the same command continues."""

import io
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.unit.disk_faults import disk_full, killed_at_each_write
from tests.unit.eval import colours
from tests.unit.eval.conftest import evaluate
from verl_axpo.core.types import Status
from verl_axpo.eval import evaluate as module
from verl_axpo.eval.manifest import read_manifest
from verl_axpo.eval.store import Store
from verl_axpo.eval.types import AgentRun, Turn
from verl_axpo.report import evaluation as build
from verl_axpo.report.evaluation import build_report, is_current
from verl_axpo.report.heldout import read_heldout
from verl_axpo.report.results import load_evaluation
from verl_axpo.report.runs import finish, load_run

LINES = ("rollouts.jsonl", "scores.jsonl")


class Answering:
    """An agent that answers red to everything; the test is about what is stored."""

    async def run(self, question: str, images: Sequence[bytes] = (), seed: Any = None) -> AgentRun:
        turn = Turn(text=colours.says("red"), prompt_tokens=9, completion_tokens=9, finish_reason="stop", seconds=0.1)
        return AgentRun(status=Status.OK, turns=(turn,), started=time.time(), finished=time.time())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without server and plots: they take seconds, and their files are written like all others."""

    async def answering(*_: Any) -> Answering:
        return Answering()

    monkeypatch.setattr(module, "_agent", answering)
    monkeypatch.setattr(build, "figures", lambda *_: [])


def warm(folder: Path) -> None:
    run(folder, ("warm",))


def run(folder: Path, benchmarks: tuple[str, ...] = ("warm", "cold")) -> None:
    """One run of `verl-axpo eval run` and the report at its end."""
    questions = {name: colours.load(name, 2) for name in benchmarks}
    evaluate(
        "http://nobody/v1", folder, questions=questions, rollouts=1, concurrency=1, console=Console(file=io.StringIO())
    )
    build_report(folder)


def whole_lines(folder: Path) -> dict[str, list[bytes]]:
    files = {name: folder / name for name in LINES}
    return {name: path.read_bytes().split(b"\n")[:-1] if path.exists() else [] for name, path in files.items()}


def numbers(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())["measures"]
    return found


def check_goes_on(folder: Path, expected: dict[str, Any], where: str) -> None:
    """After a kill or a full disk no file claims more than exists, and the next run finishes as usual."""
    if (folder / "report.md").exists():
        assert is_current(folder), f"{where}: a report of another state"
        assert (folder / "report.html").read_text().rstrip().endswith("</html>"), where
    kept = whole_lines(folder)
    run(folder)
    now = whole_lines(folder)
    for name in LINES:
        assert now[name][: len(kept[name])] == kept[name], f"{where}: {name} lost a line"
        keys = [(line["benchmark"], line["uid"]) for line in map(json.loads, now[name])]
        assert len(set(keys)) == 6, where
    assert len(now["rollouts.jsonl"]) == 6, f"{where}: a rollout that was on disk was sampled again"
    assert Store(folder).load().damaged == []
    assert numbers(folder) == expected, where


@pytest.mark.parametrize("first", [None, warm], ids=["from nothing", "after a finished evaluation"])
def test_a_kill_at_any_write_loses_nothing_and_leaves_no_old_report(tmp_path: Path, first: Any) -> None:
    before, ended = tmp_path / "before", tmp_path / "ended"
    for folder in (before, ended):
        folder.mkdir()
    if first is not None:
        first(before)
    run(ended)
    points = 0
    for where, folder in killed_at_each_write(run, before, tmp_path / "scratch"):
        check_goes_on(folder, numbers(ended), where)
        points += 1
    assert points > 20


def test_a_full_disk_at_any_byte_leaves_no_glued_line_and_the_next_run_continues(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    ended.mkdir()
    run(ended)
    size = sum(path.stat().st_size for path in ended.rglob("*") if path.is_file())
    failed = 0
    for at, free in enumerate(range(0, size, size // 16)):
        folder = tmp_path / str(at)
        folder.mkdir()
        error = disk_full(run, folder, free)
        failed += error is not None
        if error is not None:
            assert "OSError" in error, error
        check_goes_on(folder, numbers(ended), f"{free} bytes")
    assert failed > 10


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize(
    "tail", [b'{"benchmark": "warm"', b"\xff\xfe", b"{}", b'{"benchmark":"warm"}\n', b"\n\n", b"null\n"]
)
def test_a_torn_or_poisonous_last_line_is_skipped(tmp_path: Path, name: str, tail: bytes) -> None:
    run(tmp_path)
    expected, kept = numbers(tmp_path), whole_lines(tmp_path)
    with (tmp_path / name).open("ab") as file:
        file.write(tail)
    run(tmp_path)
    assert numbers(tmp_path) == expected
    assert whole_lines(tmp_path)[name][: len(kept[name])] == kept[name]


def test_a_poisonous_question_is_kept_and_reported(tmp_path: Path) -> None:
    """Half a surrogate pair in a benchmark's text."""
    from dataclasses import replace

    one = replace(colours.question("warm", "red"), prompt="<image>\ud800?", metadata={"n": 2**80, "s": "\udc00"})
    for _ in range(2):
        evaluate("http://nobody/v1", tmp_path, questions={"warm": [one]}, rollouts=1)
    build_report(tmp_path)
    assert load_evaluation(tmp_path).results[0].per_question("pass_1").tolist() == [1.0]
    assert read_manifest(tmp_path).benchmarks["warm"]["questions"] == 1


def test_the_end_of_a_training_may_be_killed_at_any_write(tmp_path: Path) -> None:
    before = tmp_path / "before"
    (before / "heldout").mkdir(parents=True)
    row = {"uid": "v_0_0", "score": 1.0, "acc": 1.0, "uses_tool": 1.0, "infra_failure": 0.0}
    for step in (0, 1):
        (before / f"heldout/{step}.jsonl").write_text(json.dumps(row) + "\n")
    (before / "metrics_1.jsonl").write_text(json.dumps({"step": 1, "data": {"m": 0.5}}) + "\n")

    def end(folder: Path) -> None:
        finish(folder, "axpo", 0, 1)

    for where, folder in killed_at_each_write(end, before, tmp_path / "scratch"):
        end(folder)
        assert load_run(folder).metrics == {1: {"m": 0.5}}, where
        assert set(read_heldout(folder)) == {"before", "after"}, where
