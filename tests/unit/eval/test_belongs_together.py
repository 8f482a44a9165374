"""A folder's questions, manifest, rollouts, scores and report belong together, whatever ended in between."""

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.agent.scripted import ScriptedServer
from tests.unit.eval import colours
from tests.unit.eval.conftest import evaluate
from tests.unit.eval.test_cli import run
from tests.unit.eval.test_report import OUTCOMES, write
from tests.unit.eval.test_store import record
from verl_axpo.eval.manifest import open_manifest, read_manifest
from verl_axpo.eval.registry import about
from verl_axpo.eval.store import Store
from verl_axpo.eval.types import Score
from verl_axpo.report import evaluation as build
from verl_axpo.report.evaluation import build_report
from verl_axpo.report.results import load_evaluation

Serve = Callable[..., ScriptedServer]
QUIET = ["--no-agent", "--benchmark", "warm", "--rollouts", "2"]


def shares(out: Path) -> dict[str, float | None]:
    measured = json.loads((out / "report.json").read_text())["measures"]["pass_1"]
    return {name: row["value"] for name, row in measured.items()}


def uids(out: Path, name: str = "warm") -> list[str]:
    return [question.uid for question in Store(out).load().questions(name)]


@pytest.mark.parametrize("first", [["--source", "warm=1"], ["--source", "warm=9", "--limit", "3"]])
def test_questions_that_were_never_sampled_may_be_others_in_the_next_run(
    serve: Serve, tmp_path: Path, first: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run ends on a missing key, after it has written its questions."""
    monkeypatch.delenv("TAVILY_API_KEY", raising=False)
    with pytest.raises(ValueError, match="TAVILY_API_KEY"):
        run(serve().url, tmp_path, "--benchmark", "warm", "--tools", "paper", *first)
    (tmp_path / "images").mkdir(exist_ok=True)
    wrong = [{"text": colours.says("mauve")}]
    status, output = run(serve(red=wrong).url, tmp_path, *QUIET, "--source", "warm=5")
    assert status == 0, output
    assert uids(tmp_path) == ["red", "red1", "red2", "red3", "red4"]
    assert shares(tmp_path) == {"warm": 0.0}
    assert "still to be sampled" not in (tmp_path / "report.md").read_text()


def test_a_question_of_the_same_name_and_other_words_replaces_one_that_was_never_sampled(tmp_path: Path) -> None:
    old = [colours.question("warm", "red")]
    new = [replace(old[0], prompt=old[0].prompt + " Now?", ground_truth="rose")]
    for questions in (old, new):
        open_manifest(tmp_path, {"rollouts": 1}, {"warm": questions}, about(colours, ["warm"]))
        Store(tmp_path).add_questions("warm", questions)
    (kept,) = Store(tmp_path).load().questions("warm")
    assert (kept.prompt, kept.ground_truth) == (new[0].prompt, "rose")
    assert load_evaluation(tmp_path).results[0].uids == ("red",)


def test_questions_that_were_sampled_are_kept_and_others_refused(serve: Serve, tmp_path: Path) -> None:
    url = serve().url
    evaluate(url, tmp_path, benchmarks=("warm",))
    before = (tmp_path / "questions/warm.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"questions of warm: there 1 .*, this run 2 "):
        evaluate(url, tmp_path, benchmarks=("warm",), source=2)
    assert (tmp_path / "questions/warm.jsonl").read_bytes() == before
    # a benchmark without rollouts may change
    questions = {"warm": colours.load("warm"), "cold": colours.load("cold", 2)}
    open_manifest(tmp_path, read_manifest(tmp_path).settings, {"cold": colours.load("cold")}, about(colours, ["cold"]))
    assert evaluate(url, tmp_path, questions=questions)
    assert uids(tmp_path, "cold") == ["green", "green1", "blue", "blue1"]


@pytest.mark.parametrize("damage", ["lost", "torn", "of another run"])
def test_a_damaged_questions_file_is_written_again_by_a_run_and_refused_by_a_report(
    serve: Serve, tmp_path: Path, damage: str
) -> None:
    url, path = serve().url, tmp_path / "questions/cold.jsonl"
    evaluate(url, tmp_path)
    whole = path.read_bytes()
    if damage == "lost":
        path.unlink()
    else:
        path.write_bytes(whole[: len(whole) // 2] if damage == "torn" else whole.splitlines(keepends=True)[0])
    with pytest.raises(ValueError, match=r"cold\.jsonl.*run the same `verl-axpo eval run` again"):
        build_report(tmp_path)
    assert evaluate(url, tmp_path)
    assert path.read_bytes() == whole
    build_report(tmp_path)


def test_rollouts_of_questions_that_are_not_there_are_in_no_number(tmp_path: Path) -> None:
    folder = write(tmp_path, OUTCOMES)
    expected = build_report(folder)
    numbers = json.loads((folder / "report.json").read_text())["measures"]

    async def stray() -> None:
        with Store(folder) as store:
            for rollout in (record("violet", benchmark="warm"), record("red", 7, benchmark="warm")):
                await store.add_rollout(rollout)
                await store.add_score(rollout.key, Score(correct=True, by="rule", reason="x"))

    asyncio.run(stray())
    built = build_report(folder)
    assert json.loads((folder / "report.json").read_text())["measures"] == numbers
    assert [note for note in built.notes if note not in expected.notes] == [
        "2 rollouts in rollouts.jsonl belong to no question of this evaluation; they are in no number."
    ]


class Died(BaseException):
    """A stand-in for a kill: no handler of the code catches it."""


def die(*_: object, **__: object) -> None:
    raise Died


def test_a_run_that_died_before_its_report_leaves_none_and_the_next_one_writes_it(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    two = [*QUIET[:1], *QUIET[3:]]
    assert run(server.url, tmp_path, *QUIET)[0] == 0
    assert shares(tmp_path) == {"warm": 1.0}
    with monkeypatch.context() as killed:
        killed.setattr(build, "build_report", die)
        with pytest.raises(Died):
            run(server.url, tmp_path, *two)
    assert not (tmp_path / "report.md").exists(), "a report of fewer rollouts than the folder has"
    asked = len(server.requests())
    status, output = run(server.url, tmp_path, *two)
    assert status == 0
    assert "nothing to do" not in output
    assert len(server.requests()) == asked
    assert shares(tmp_path)["cold"] == 0.0


@pytest.mark.parametrize("older", ["report.md", "report.json"])
def test_a_report_of_another_state_is_written_again(serve: Serve, tmp_path: Path, older: str) -> None:
    server = serve()
    assert run(server.url, tmp_path, *QUIET)[0] == 0
    kept = {name: (tmp_path / name).read_bytes() for name in ("report.md", "report.json", "report.html")}
    assert run(server.url, tmp_path, *QUIET[:1], *QUIET[3:])[0] == 0
    for name, content in kept.items():  # somebody copies it back
        (tmp_path / name).write_bytes(content)
    if older == "report.json":
        (tmp_path / older).unlink()
    status, output = run(server.url, tmp_path, *QUIET[:1], *QUIET[3:])
    assert (status, "nothing to do" in output) == (0, False)
    assert set(shares(tmp_path)) == {"cold", "warm", "average of 2"}
    assert "nothing to do" in run(server.url, tmp_path, *QUIET[:1], *QUIET[3:])[1]


@pytest.mark.parametrize("change", ["rollout", "score", "questions", "manifest"])
def test_whatever_is_written_takes_an_older_report_away(tmp_path: Path, change: str) -> None:
    folder = write(tmp_path, OUTCOMES)
    for name in ("report.md", "report.html", "report.json"):
        (folder / name).write_text("older")
    questions = {name: [colours.question(name, uid) for bench, uid in OUTCOMES if bench == name] for name in ("warm",)}
    if change == "manifest":
        values = {"model": "m", "rollouts": 4, "sampling": {"temperature": 0.7}, "judge": "now there is one"}
        open_manifest(folder, values, questions, about(colours, ["warm"]))
    elif change == "questions":
        os.remove(folder / "questions/warm.jsonl")
        Store(folder).add_questions("warm", questions["warm"])
    else:
        asyncio.run(_add(folder, change))
    assert not list(folder.glob("report.*"))


async def _add(folder: Path, change: str) -> None:
    with Store(folder) as store:
        if change == "rollout":
            await store.add_rollout(record("pink", 0, benchmark="warm"))
        else:
            await store.add_score(("warm", "pink", 0), Score(correct=True, by="rule", reason="x"))


def test_a_rollout_that_is_sampled_again_does_not_inherit_a_verdict(tmp_path: Path) -> None:
    """Its first line is lost (a damaged disk), its verdict is not."""

    async def first_run(store: Store) -> None:
        await store.add_rollout(record("red", answer="red"))
        await store.add_score(("b", "red", 0), Score(correct=True, by="rule", reason="x"))

    async def second_run(store: Store) -> None:
        await store.add_rollout(record("red", answer="blue"))

    with Store(tmp_path) as store:
        asyncio.run(first_run(store))
    (tmp_path / "rollouts.jsonl").write_bytes(b"")
    with Store(tmp_path) as store:
        asyncio.run(second_run(store))
    assert Store(tmp_path).load().scores == {}


def test_rollouts_whose_manifest_is_lost_are_not_taken_for_this_runs(serve: Serve, tmp_path: Path) -> None:
    url = serve().url
    evaluate(url, tmp_path, benchmarks=("warm",))
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"no manifest\.json there"):
        evaluate(url, tmp_path, benchmarks=("warm",), rollouts=1)


def test_an_unreadable_manifest_says_so(tmp_path: Path) -> None:
    for content in ("{", '{"settings": 1}', "[]", '{"settings": {}, "new": 1}'):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(ValueError, match=r"manifest\.json: .*restore it, or use another --out"):
            read_manifest(tmp_path)
