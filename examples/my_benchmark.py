"""A benchmark of one's own: "How many discs are there?", 20 drawn pictures, scored by a rule (docs/add_a_benchmark.md).

verl-axpo eval run --registry examples.my_benchmark --tools zoom --model NAME --out DIR
verl-axpo eval export --registry examples.my_benchmark --tools zoom --out FILE.parquet
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from verl_axpo.eval.prompts import render
from verl_axpo.eval.registry import Described
from verl_axpo.eval.types import Question, Score

QUESTIONS = 20


def names() -> Sequence[str]:
    """The benchmarks of this module."""
    return ("discs",)


def get(name: str) -> Described:
    """The benchmark's place in the report: `group` is what averages are taken over."""
    return Described(column="Discs", group="perception")


def load(name: str, source: str | Path | None = None, *, limit: int | None = None) -> list[Question]:
    """The questions, always the same: a run continues only with the questions that it began with.

    Args:
        name: one of `names()`.
        source: the path of `--source NAME=PATH`; yours may read files there.
        limit: only the first so many.
    """
    return [_question(number) for number in range(QUESTIONS)][:limit]


async def score(question: Question, answer: str | None, judge: Any) -> Score:
    """Right if the answer is the number; `values` may hold further numbers, `judge` may be asked (`judge.judge`)."""
    if answer is None:  # no <answer>\boxed{...}</answer> in the last turn
        return Score(correct=False, by="rule", reason="no final answer")
    right = answer.strip() == question.ground_truth
    near = answer.strip().isdigit() and abs(int(answer) - int(question.ground_truth)) <= 1
    reason = f"{answer!r} {'=' if right else 'is not'} {question.ground_truth!r}"
    return Score(correct=right, by="rule", reason=reason, values={"off_by_one": float(near)})


def judged(question: Question) -> bool:
    """No judge decides here. Without this function, a judge decides about answers that the rule does not find right."""
    return False


def _question(number: int) -> Question:
    count = number * 7 % 9 + 1
    image = Image.new("RGB", (320, 320), "white")
    for at in range(count):
        left, top = 20 + 100 * (at % 3), 20 + 100 * (at // 3)
        ImageDraw.Draw(image).ellipse((left, top, left + 60, top + 60), fill=("red", "green", "blue")[number % 3])
    file = io.BytesIO()
    image.save(file, format="PNG")
    return Question(
        benchmark="discs",
        uid=str(number),
        prompt=render("How many discs are there?", "math", images=1),
        ground_truth=str(count),
        answer_type="math",
        images=(file.getvalue(),),
    )
