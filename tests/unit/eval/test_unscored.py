"""Answers without a verdict: they widen the stated interval, and do not stop the run."""

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.unit.agent.scripted import ScriptedServer
from tests.unit.eval import colours
from tests.unit.eval.conftest import evaluate
from tests.unit.eval.test_report import write
from verl_axpo.errors import InfraFailure
from verl_axpo.eval.runner import JUDGE_GONE_AFTER
from verl_axpo.eval.store import Store
from verl_axpo.eval.types import Score
from verl_axpo.report.evaluation import breakdown, build_report, detail_tables, paper_table, summary
from verl_axpo.report.results import load_evaluation
from verl_axpo.rewards.judge_prompt import Verdict

Serve = Callable[..., ScriptedServer]
RIGHT_BY_RULE, RIGHT_BY_JUDGE, WRONG = 3, 1, 6


class RuleFirst:
    """A registry of ten questions: a rule says right to three, and the judge to one of the other seven."""

    names, get, load = staticmethod(colours.names), staticmethod(colours.get), staticmethod(colours.load)

    @staticmethod
    def judged(question: Any) -> bool:
        return True

    @staticmethod
    async def score(question: Any, answer: str | None, judge: Any) -> Score:
        if int(question.uid) < RIGHT_BY_RULE:
            return Score(correct=True, by="rule", reason="the same")
        if judge is None:
            return Score(correct=False, by="rule", reason="not the same, and no judge is set")
        try:
            verdict = await judge.judge(question.uid, question.ground_truth, str(answer))
        except InfraFailure as failure:
            return Score(correct=None, by="nobody", reason=f"judge failed: {failure}")
        return Score(correct=verdict.correct, by="judge", reason=verdict.reason)


class Judge:
    """Right for question 3 alone; fails from its first or on the first `failing` questions."""

    def __init__(self, failing: int = 0) -> None:
        self.failing, self.asked = failing, 0

    async def judge(self, uid: str, reference: str, answer: str) -> Verdict:
        self.asked += 1
        if self.asked <= self.failing:
            raise InfraFailure("asleep")
        return Verdict(correct=uid == "3", reason="told")


def ten(count: int = RIGHT_BY_RULE + RIGHT_BY_JUDGE + WRONG) -> dict[str, list[Any]]:
    return {"warm": [colours.question("warm", "red", str(at)) for at in range(count)]}


def report(out: Path) -> dict[str, Any]:
    build_report(out)
    saved: dict[str, Any] = json.loads((out / "report.json").read_text())
    return saved


def once(server: ScriptedServer, out: Path, judge: Judge | None, **more: Any) -> bool:
    options: dict[str, Any] = {"registry": RuleFirst, "rollouts": 1, "concurrency": 1, "questions": ten(), **more}
    return evaluate(server.url, out, judge=judge, judge_name="j" if judge else None, **options)


@pytest.mark.parametrize(
    ("failing", "lowest", "highest"),
    [(0, 0.4, 0.4), (1, 0.3, 0.4), (7, 0.3, 1.0)],  # the first question that the judge sees is the one it calls right
)
def test_a_failing_judge_widens_the_bounds_and_never_raises_a_number(
    serve: Serve, tmp_path: Path, failing: int, lowest: float, highest: float
) -> None:
    once(serve(), tmp_path, Judge(failing))
    found = report(tmp_path)["measures"]["pass_1"]["warm"]
    assert (found["value"], found["at_most"]) == (lowest, highest)
    assert found["low"] <= lowest <= 0.4 <= highest <= found["high"]
    cell = f"{100 * lowest:.1f}" + (f" to {100 * highest:.1f}" if failing else "")
    assert f"| Pass@1 | {cell} [" in (tmp_path / "report.md").read_text()


def test_a_judge_that_comes_later_and_fails_hides_no_verdict_of_the_rules(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    assert once(server, tmp_path, None)
    assert not once(server, tmp_path, Judge(failing=99))
    scores = Store(tmp_path).load().scores
    assert [scores["warm", str(at), 0].correct for at in range(10)] == [True] * 3 + [False] * 7
    found = report(tmp_path)["measures"]["pass_1"]["warm"]
    assert (found["value"], found["at_most"]) == (0.3, 1.0)  # wrong by a rule is not wrong by the judge
    assert once(server, tmp_path, Judge())
    found = report(tmp_path)["measures"]["pass_1"]["warm"]
    assert (found["value"], found["at_most"]) == (0.4, 0.4)


def test_a_null_verdict_hides_no_earlier_one_whoever_gave_it(tmp_path: Path) -> None:
    given = Score(correct=True, by="judge", reason="the same")

    async def judge_twice() -> None:
        with Store(tmp_path) as store:
            await store.add_score(("b", "q", 0), given, judge=True)
            await store.add_score(("b", "q", 0), Score(correct=None, by="nobody", reason="asleep"), judge=True)
            assert store.scores["b", "q", 0] == given

    asyncio.run(judge_twice())
    assert Store(tmp_path).load().scores["b", "q", 0] == given


def test_a_judge_that_keeps_failing_is_no_longer_asked_and_the_run_says_so(serve: Serve, tmp_path: Path) -> None:
    server, judge, text = serve(), Judge(failing=10**6), io.StringIO()
    count = RIGHT_BY_RULE + JUDGE_GONE_AFTER + 20
    console = Console(file=text, width=500)
    assert not once(server, tmp_path, judge, questions=ten(count), console=console)
    assert judge.asked == JUDGE_GONE_AFTER
    told = " ".join(text.getvalue().split())
    assert f"the judge failed {JUDGE_GONE_AFTER} times in a row" in told
    assert "asleep" in told
    assert "not asked any more" in told
    found = report(tmp_path)["measures"]["pass_1"]["warm"]
    assert (found["value"], found["at_most"]) == (RIGHT_BY_RULE / count, 1.0)
    awake = Judge()
    assert once(server, tmp_path, awake, questions=ten(count))
    assert awake.asked == count - RIGHT_BY_RULE
    assert len(server.requests()) == count  # nothing was sampled twice


@pytest.mark.parametrize("raised", [RecursionError(), OSError("cache")])
def test_a_scorer_that_raises_costs_the_answer_it_was_asked_about(
    serve: Serve, tmp_path: Path, raised: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = colours.score

    async def broken(question: Any, answer: str | None, judge: Any) -> Score:
        if question.uid == "green":
            raise raised
        return await whole(question, answer, judge)

    server = serve()
    with monkeypatch.context() as patched:
        patched.setattr(colours, "score", broken)
        assert not evaluate(server.url, tmp_path, concurrency=1, benchmarks=("cold",))
        # the next run meets the damaged line before it samples anything
        assert not evaluate(server.url, tmp_path, concurrency=1)
    scores = {key[1]: score for key, score in Store(tmp_path).load().scores.items()}
    assert [scores[uid].correct for uid in ("red", "green", "blue")] == [True, None, False]
    assert type(raised).__name__ in scores["green"].reason
    asked = len(server.requests())
    assert evaluate(server.url, tmp_path)
    assert len(server.requests()) == asked


NONSENSE: list[Any] = [
    *(None, "right", {"correct": "yes"}, {"correct": 1.5}, {"by": "magic"}),
    *({"values": {"f1": float("nan")}}, {"values": {"f1": "high"}}),
]


def test_a_scorer_that_returns_nonsense_costs_the_answer_it_was_asked_about(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nonsense(question: Any, answer: str | None, judge: Any) -> Any:
        verdict = NONSENSE[int(question.uid)] if int(question.uid) < len(NONSENSE) else {}
        values: dict[str, Any] = {"correct": True, "by": "rule", "reason": "x"}
        return Score(**values | verdict) if isinstance(verdict, dict) else verdict

    monkeypatch.setattr(colours, "score", nonsense)
    assert not evaluate(serve().url, tmp_path, questions=ten(), rollouts=1)
    scores = {int(key[1]): score for key, score in Store(tmp_path).load().scores.items()}
    assert [scores[at].correct for at in range(10)] == [None] * len(NONSENSE) + [True] * (10 - len(NONSENSE))
    assert load_evaluation(tmp_path).results[0].undecided == len(NONSENSE)


def test_only_the_question_that_breaks_the_agent_is_lost(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from verl_axpo.agent.loop import Agent

    whole = Agent.run

    async def broken(self: Agent, question: str, *rest: Any) -> Any:
        if "green" in question:
            raise ValueError("a picture of another kind")
        return await whole(self, question, *rest)

    monkeypatch.setattr(Agent, "run", broken)
    assert not evaluate(serve().url, tmp_path)
    store = Store(tmp_path).load()
    assert {key[1]: status.value for key, status in store.statuses.items()} == {
        "red": "ok",
        "green": "infra_failure",
        "blue": "ok",
    }
    assert "a picture of another kind" in str(
        next(rollout.error for rollout in store.rollouts() if rollout.uid == "green")
    )


def test_rates_in_every_table_count_unscored_answers_as_wrong_and_then_as_right(tmp_path: Path) -> None:
    folder = write(tmp_path, {("warm", "red"): "Cuww", ("warm", "pink"): "cWuu"})
    evaluation = load_evaluation(folder)
    warm = next(result for result in evaluation.results if result.name == "warm")
    # red 1 of 4 or 2 of 4, pink 1 of 4 or 3 of 4
    assert warm.per_question("pass_1").tolist() == [0.25, 0.25]
    assert warm.per_question("pass_1", generous=True).tolist() == [0.5, 0.75]
    numbers = summary(evaluation)["pass_1"]["warm"]
    assert (numbers.value, numbers.at_most) == (0.25, 0.625)
    table = paper_table(evaluation, summary(evaluation)).lines()
    assert table[1][table[0].index("Warm")].startswith("25.0 to 62.5 [")
    parts = {result.column: breakdown(result) for result in evaluation.results}
    (line,) = [row for row in detail_tables(parts)["Tool use and outcome"].lines() if row[0] == "Warm"]
    assert line[-2:] == ["50.0", "16.7 to 66.7"]  # with a tool 1 of 2; without 1 of 6 and three unscored
    # a score that nobody gave counts 0 in the other conventions' means, which are all in [0, 1]
    assert breakdown(warm)["values"] == {"f1": 0.5}
