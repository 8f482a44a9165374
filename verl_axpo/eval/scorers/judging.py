"""Rule first, judge second.

answer -> missing? wrong -> rule says right? right -> no judge? the rule is the whole verdict
                                                   -> judge -> right or wrong, or InfraFailure: nobody knows
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from verl_axpo.errors import InfraFailure
from verl_axpo.eval.types import Score
from verl_axpo.rewards.judge_prompt import Verdict

MISSING = "no final answer"


class Judge(Protocol):
    """Decides whether an answer means the same as the reference."""

    async def judge(self, question: str, reference: str, answer: str) -> Verdict:
        """Raises `InfraFailure` when no verdict could be had."""
        ...


def missing(*conventions: str) -> Score:
    """The score of a response without a final answer: wrong by every convention."""
    return Score(correct=False, by="rule", reason=MISSING, values=dict.fromkeys(conventions, 0.0))


async def rule_then_judge(
    *,
    question: str,
    reference: str,
    answer: str,
    matches: Callable[[], bool],
    judge: Judge | None,
    values: Mapping[str, float],
) -> Score:
    """Score by the rule where it says right, else by the judge.

    Args:
        question: the question's text, for the judge.
        reference: the right answer as the judge sees it, other accepted ones included.
        answer: the final answer.
        matches: the rule; its "no" only means that the texts differ.
        judge: without one the rule decides alone, and the reason says so.
        values: further numbers of the score.

    Returns:
        the score; `correct` is None, `by` "nobody" when the judge failed.
    """
    matched = matches()
    numbers = {"exact_match": float(matched), **values}
    if matched:
        return Score(correct=True, by="rule", reason=f"{answer!r} = {reference!r}", values=numbers)
    if judge is None:
        reason = f"{answer!r} is not {reference!r} by rule, and no judge is set"
        return Score(correct=False, by="rule", reason=reason, values=numbers)
    try:
        verdict = await judge.judge(question, reference, answer)
    except InfraFailure as failure:
        return Score(correct=None, by="nobody", reason=f"judge failed: {failure}", values=numbers)
    return Score(correct=verdict.correct, by="judge", reason=verdict.reason, values=numbers)
