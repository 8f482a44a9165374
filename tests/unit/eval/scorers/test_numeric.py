"""Values of numbers and LaTeX expressions, in bounded time and from any thread."""

import math
import threading
import time

import pytest

from verl_axpo.eval.scorers.numeric import MAX_CHARACTERS, value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", 3.0),
        ("-2.5", -2.5),
        (r"\frac{3}{2}", 1.5),
        (r"2\pi", 2 * math.pi),
        ("π", math.pi),
        (r"\sqrt{16}", 4.0),
        (r"\sin(0)", 0.0),
        ("2^{10}", 1024.0),
        ("5!", 120.0),
        ("|-3|", 3.0),
        (r"2 \times 3", 6.0),
    ],
)
def test_value(text: str, expected: float) -> None:
    assert value(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "2x", "e", "nan", "inf", "a sentence", "{", "\\", "(1,2)", "x=3", "1/0"),
        *(r"\frac{1}{0}", r"\sqrt{-1}", r"\infty", r"\int_0^1 2", r"\begin{pmatrix}1\end{pmatrix}"),
    ],
)
def test_what_has_no_value(text: str) -> None:
    assert value(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *("9^{9^{9}}", "99999!", r"\binom{1000000}{500000}"),
        *("(" * 55 + "1" + ")" * 55, "|1" * 58 + "|", "1" + "+1" * MAX_CHARACTERS),
    ],
)
def test_huge_expressions_do_not_hang(text: str) -> None:
    started = time.monotonic()
    assert value(text) is None
    assert time.monotonic() - started < 5  # exact integers would take hours, the parser minutes


def test_a_worker_thread_may_ask() -> None:
    found: list[float | None] = []
    thread = threading.Thread(target=lambda: found.append(value(r"\frac{7}{8}")))
    thread.start()
    thread.join(timeout=30)
    assert found == [0.875]
