"""The held-out problems as a benchmark: `verl-axpo eval run --registry examples.smollm2.benchmark`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from examples.smollm2.problems import problems
from verl_axpo.eval.registry import Described
from verl_axpo.eval.types import Question, Score

NAME, SEED, QUESTIONS = "arithmetic", 0, 64  # the first of those that `python -m examples.smollm2` holds out


def names() -> Sequence[str]:
    """The only one."""
    return (NAME,)


def get(name: str) -> Described:
    """Its place in the report; the paper has no numbers for it."""
    return Described(column="Word problems", group="smollm2")


def load(name: str, source: str | Path | None = None, *, limit: int | None = None) -> list[Question]:
    """The held-out problems of seed 0, made here."""
    return [
        Question(
            benchmark=NAME,
            uid=str(index),
            prompt=made.question,
            ground_truth=made.answer,
            answer_type="math",
            images=(),
        )
        for index, made, _ in problems("heldout", QUESTIONS, SEED)
    ][:limit]


async def score(question: Question, answer: str | None, judge: Any) -> Score:
    """Right if it is the integer; nobody needs a judge for that."""
    right = answer is not None and answer.strip() == question.ground_truth
    reason = "no final answer" if answer is None else f"{answer!r} against {question.ground_truth!r}"
    return Score(correct=right, by="rule", reason=reason)


def judged(question: Question) -> bool:
    """No judge decides here."""
    return False
