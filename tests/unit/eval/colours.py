"""A benchmark of the tests: "what colour is it?", two groups, scored by exact match; a real registry module."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from verl_axpo.errors import InfraFailure
from verl_axpo.eval.types import Question, Score
from verl_axpo.rewards.judge_prompt import Verdict

ZOOM = '<tool_call>\n{"name": "image_zoom_in", "arguments": {"bbox_2d": [0, 0, 500, 500], "label": "x"}}\n</tool_call>'
THINKS = "I look closer.\n</think>\n\n"


def says(answer: str) -> str:
    return f"I see.\n</think>\n\n<answer>\\boxed{{{answer}}}</answer>"


# By question: red is answered at once and rightly, green after a zoom, blue wrongly
SCRIPTS: dict[str, list[dict[str, Any]]] = {
    "red": [{"text": says("red")}],
    "green": [{"text": THINKS + ZOOM}, {"text": says("green"), "prompt_tokens": 150}],
    "blue": [{"text": says("<b>red & green</b>")}],
}


@dataclass(frozen=True)
class Described:
    column: str
    group: str
    place: int
    paper: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PaperRow:
    pass_1: float
    pass_4: float
    tool_use: float


BENCHMARKS = {
    "warm": Described("Warm", "near", 1, {"SFT+AXPO": PaperRow(12.3, 45.6, 78.9)}),
    "cold": Described("Cold", "far", 0),
}
COLOURS = {"warm": ("red",), "cold": ("green", "blue")}


def question(benchmark: str, colour: str, uid: str | None = None) -> Question:
    buffer = io.BytesIO()
    Image.new("RGB", (128, 96), colour).save(buffer, format="PNG")
    return Question(
        benchmark=benchmark,
        uid=uid or colour,
        prompt=f"<image>What colour is it, in {uid or colour}? script:{colour}",
        ground_truth=colour,
        answer_type="short_text",
        images=(buffer.getvalue(),),
    )


def names() -> Sequence[str]:
    return tuple(BENCHMARKS)


def get(name: str) -> Described:
    return BENCHMARKS[name]


def load(name: str, source: str | Path | None = None, *, limit: int | None = None) -> list[Question]:
    """`source` repeats every question so many times, under a uid of its own."""
    times = int(str(source or 1))
    found = [
        question(name, colour, colour if at == 0 else f"{colour}{at}")
        for colour in COLOURS[name]
        for at in range(times)
    ]
    return found[:limit]


async def score(question: Question, answer: str | None, judge: Any) -> Score:
    """Exact match. If there is a `judge`, it is asked instead, and may fail."""
    if judge is not None and answer is not None:
        verdict = await judge.judge(question.prompt, question.ground_truth, answer)
        return Score(correct=verdict.correct, by="judge", reason=verdict.reason)
    right = answer == question.ground_truth
    return Score(correct=right, by="rule", reason=f"{answer!r} and {question.ground_truth!r}", values={"f1": right})


class BrokenJudge:
    async def judge(self, question: str, reference: str, answer: str) -> Verdict:
        raise InfraFailure("the judge is asleep")


class StrictJudge:
    def __init__(self) -> None:
        self.asked: list[str] = []

    async def judge(self, question: str, reference: str, answer: str) -> Verdict:
        self.asked.append(reference)
        return Verdict(correct=False, reason="not the same word")


class KindJudge:
    def __init__(self) -> None:
        self.asked: list[str] = []

    async def judge(self, question: str, reference: str, answer: str) -> Verdict:
        self.asked.append(reference)
        return Verdict(correct=True, reason="close enough")
