"""Rule first, judge second; a judge that fails leaves the answer unscored."""

import asyncio
from dataclasses import dataclass, field

from verl_axpo.errors import InfraFailure
from verl_axpo.eval.scorers.judging import MISSING, missing, rule_then_judge
from verl_axpo.eval.types import Score


@dataclass
class Said:
    correct: bool
    reason: str


@dataclass
class Judge:
    """Says what it was told to; remembers what it was asked."""

    says: Said | None = None
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    async def judge(self, question: str, reference: str, answer: str) -> Said:
        self.asked.append((question, reference, answer))
        if self.says is None:
            raise InfraFailure("timed out after 3 tries")
        return self.says


def run(judge: Judge | None, *, matches: bool) -> Score:
    return asyncio.run(
        rule_then_judge(
            question="Where?",
            reference="Paris",
            answer="Lutetia",
            matches=lambda: matches,
            judge=judge,
            values={"f1": 0.25},
        )
    )


def test_a_match_by_rule_does_not_ask_the_judge() -> None:
    judge = Judge(Said(False, "no"))
    score = run(judge, matches=True)
    assert (score.correct, score.by, judge.asked) == (True, "rule", [])
    assert score.values == {"exact_match": 1.0, "f1": 0.25}


def test_the_judge_decides_where_the_rule_does_not_match() -> None:
    for correct in (True, False):
        judge = Judge(Said(correct, "Lutetia is its old name"))
        score = run(judge, matches=False)
        assert (score.correct, score.by, score.reason) == (correct, "judge", "Lutetia is its old name")
        assert judge.asked == [("Where?", "Paris", "Lutetia")]
        assert score.values["exact_match"] == 0.0


def test_a_failing_judge_leaves_the_answer_unscored() -> None:
    score = run(Judge(None), matches=False)
    assert (score.correct, score.by) == (None, "nobody")
    assert score.reason == "judge failed: timed out after 3 tries"


def test_without_a_judge_the_rule_decides_and_says_so() -> None:
    score = run(None, matches=False)
    assert (score.correct, score.by) == (False, "rule")
    assert "no judge is set" in score.reason


def test_a_missing_answer_is_wrong_by_every_convention() -> None:
    assert missing("f1") == Score(correct=False, by="rule", reason=MISSING, values={"f1": 0.0})
