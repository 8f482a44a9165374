"""Rules that change: verdicts are made again, rollouts are not mixed, and each number names its version."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.agent.scripted import ScriptedServer
from tests.unit.eval.conftest import evaluate
from verl_axpo import images, prompts, rewards
from verl_axpo.eval import scorers, versions
from verl_axpo.eval.store import Store
from verl_axpo.eval.types import Score
from verl_axpo.report.evaluation import build_report
from verl_axpo.report.results import load_evaluation
from verl_axpo.rewards import judge_prompt

Serve = Callable[..., ScriptedServer]
SCORING = [(scorers, "VERSION"), (rewards, "VERSION"), (judge_prompt, "PROMPT_VERSION")]


@pytest.mark.parametrize(("module", "name"), SCORING, ids=["scorers", "answer rules", "judge prompt"])
def test_rules_of_another_version_score_again_and_sample_nothing(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    server = serve()
    assert evaluate(server.url, tmp_path)
    asked, lines = len(server.requests()), (tmp_path / "scores.jsonl").read_bytes().count(b"\n")
    server.kill()
    monkeypatch.setattr(module, name, 99)
    assert evaluate(server.url, tmp_path)
    scored = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_bytes().splitlines()]
    assert len(scored) == 2 * lines
    assert {line["version"] for line in scored[lines:]} == {versions.scoring()}
    assert "99" in versions.scoring()
    assert evaluate(server.url, tmp_path)  # and not once more
    assert (tmp_path / "scores.jsonl").read_bytes().count(b"\n") == 2 * lines
    assert len(server.requests()) == asked


def test_verdicts_of_two_versions_are_in_no_number_together(serve: Serve, tmp_path: Path) -> None:
    evaluate(serve().url, tmp_path)
    path = tmp_path / "scores.jsonl"
    first, *others = path.read_bytes().splitlines(keepends=True)
    older = json.loads(first)
    del older["version"]  # as it was before lines said so
    path.write_bytes(b"".join([json.dumps(older).encode() + b"\n", *others]))
    rows = [row for result in load_evaluation(tmp_path).results for row in result.rows]
    assert sum(row.correct is None for row in rows) == 1
    built = build_report(tmp_path)
    assert any(
        "1 of 6 rollouts" in note and "other rules" in note and "`verl-axpo eval run`" in note for note in built.notes
    )
    assert json.loads((tmp_path / "report.json").read_text())["scored_by_rules"] == versions.scoring()


def test_a_later_verdict_of_older_rules_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def add(correct: bool | None) -> None:
        with Store(tmp_path) as store:
            await store.add_score(("b", "q", 0), Score(correct=correct, by="rule", reason="x"))

    asyncio.run(add(True))
    with monkeypatch.context() as patched:
        patched.setattr(scorers, "VERSION", 1)
        asyncio.run(add(False))
    assert Store(tmp_path).load().scores["b", "q", 0].correct is True
    monkeypatch.setattr(scorers, "VERSION", 99)
    asyncio.run(add(None))  # the newest rules gave no verdict, and an older verdict does not count for them
    assert Store(tmp_path).load().scores["b", "q", 0].correct is None


@pytest.mark.parametrize("module", [prompts, images], ids=["prompts", "images"])
def test_nothing_is_added_to_rollouts_of_another_version(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any
) -> None:
    server = serve()
    assert evaluate(server.url, tmp_path, benchmarks=("warm",))
    asked = len(server.requests())
    monkeypatch.setattr(module, "VERSION", 99)
    assert evaluate(server.url, tmp_path, benchmarks=("warm",))  # what is finished stays
    with pytest.raises(ValueError, match=r"were sampled with .*, this is .*99.*use another --out"):
        evaluate(server.url, tmp_path)
    assert len(server.requests()) == asked


def test_a_folder_from_before_versions_takes_no_more_rollouts(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    evaluate(server.url, tmp_path, benchmarks=("warm",))
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["prompt"]["versions"]
    path.write_text(json.dumps(manifest))
    assert evaluate(server.url, tmp_path, benchmarks=("warm",))
    (tmp_path / "scores.jsonl").unlink()
    with pytest.raises(ValueError, match=r"were sampled with prompts 1, images 1"):
        evaluate(server.url, tmp_path)
    assert len(Store(tmp_path).load().scores) == 2  # what was sampled is scored all the same


def test_answers_are_read_again_by_the_rules_of_today(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule that finds the answer in a response has a version too."""
    from verl_axpo.eval import evaluate as module

    server = serve(blue=[{"text": "I see.\n</think>\n\nit is blue"}])
    assert evaluate(server.url, tmp_path)
    assert Store(tmp_path).load().scores["cold", "blue", 0].correct is False
    monkeypatch.setattr(rewards, "VERSION", 99)
    monkeypatch.setattr(module, "final_answer", lambda text: "blue" if text.endswith("it is blue") else None)
    assert evaluate(server.url, tmp_path)
    scores = Store(tmp_path).load().scores
    assert [scores["cold", uid, 0].correct for uid in ("green", "blue")] == [False, True]


def test_the_report_names_the_rules(serve: Serve, tmp_path: Path) -> None:
    evaluate(serve().url, tmp_path, benchmarks=("warm",))
    text = build_report(tmp_path).path.read_text()
    assert f"| scored by | {versions.scoring()} |" in text
    assert f"| sampled with | {versions.sampling()} |" in text
