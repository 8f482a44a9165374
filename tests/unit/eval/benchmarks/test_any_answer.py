"""Whatever a policy writes, scoring gives a verdict and numbers in [0, 1]."""

import asyncio
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from verl_axpo.eval import benchmarks
from verl_axpo.eval.types import Question

_PIECES = (*"A1${}^-,=½\0\n ", "(B)", r"\frac", r"\pi", "π", "is ", "the")
    "A",
    "(B)",
    "$",
    r"\frac",
    "{",
    "}",
    "1",
    "2",
    r"\pi",
    "π",
    "^",
    "-",
    ",",
    " ",
    "\n",
    "is ",
    "=",
    "½",
    "\0",
    "the",
)
QUESTIONS: list[Question] = []
_ANSWERS = st.text(max_size=12) | st.lists(st.sampled_from(_PIECES), max_size=8).map("".join)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=_ANSWERS)
def test_any_text_is_scored(data: dict[str, Path], answer: str) -> None:
    if not QUESTIONS:
        QUESTIONS.extend(q for name in benchmarks.names() for q in benchmarks.load(name, data[name], check_count=False))
    for question in QUESTIONS:
        score = asyncio.run(benchmarks.score(question, answer, None))
        assert score.correct in (True, False)
        assert score.by == "rule"
        assert all(0 <= number <= 1 for number in score.values.values())
