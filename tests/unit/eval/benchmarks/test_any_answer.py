"""Whatever a policy writes, scoring gives a verdict and numbers in [0, 1]."""

import asyncio
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from verl_axpo.eval import benchmarks
from verl_axpo.eval.types import Question

_PIECES = (*"A1${}^-,=½\0\n ", "(B)", r"\frac", r"\pi", "π", "is ", "the")
QUESTIONS: list[Question] = []
_ANSWERS = st.text(max_size=12) | st.lists(st.sampled_from(_PIECES), max_size=8).map("".join)


def questions(data: dict[str, Path]) -> list[Question]:
    if not QUESTIONS:
        QUESTIONS.extend(q for name in benchmarks.names() for q in benchmarks.load(name, data[name], check_count=False))
    return QUESTIONS


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=_ANSWERS)
def test_any_text_is_scored(data: dict[str, Path], answer: str) -> None:
    for question in questions(data):
        score = asyncio.run(benchmarks.score(question, answer, None))
        assert score.correct in (True, False)
        assert score.by == "rule"
        assert all(0 <= number <= 1 for number in score.values.values())


@pytest.mark.parametrize("piece", ["a ", "(1,", "{", "answer is ", "$", "A. ", r"\boxed{", "=1"])
def test_a_response_of_32_thousand_tokens_is_scored_in_time(data: dict[str, Path], piece: str) -> None:
    answer = piece * (100_000 // len(piece))
    started = time.monotonic()
    for question in questions(data):
        assert asyncio.run(benchmarks.score(question, answer, None)).correct is False
    assert time.monotonic() - started < 20  # linear is a second; quadratic would be minutes
