"""Values of numbers and LaTeX expressions, in bounded time and from any thread."""

import math
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
        # Every spelling of a fraction, a sign, a product.
        (r"\dfrac{1}{2}", 0.5),
        (r"\tfrac12", 0.5),
        (r"\frac1{4}", 0.25),
        (r"-\frac{\sqrt{3}}{2}", -math.sqrt(3) / 2),
        ("2π/3", 2 * math.pi / 3),
        ("\u22125", -5.0),
        (r"3\cdot(-2)", -6.0),
        ("2(3)", 6.0),
        (r"58^\circ", 58.0),
        ("58.5°", 58.5),
        (r"\sin 30^\circ", 0.5),
        (r"\cos{\pi}+1", 0.0),
        (r"\sin^2 1+\cos^2 1", 1.0),
        (r"\log_{2}{8}", 3.0),
        (r"\sqrt[3]{8}", 2.0),
        ("-2^2", -4.0),
        ("2^{-1}", 0.5),
        ("1/2/2", 0.25),
        ("4:3", 4 / 3),
        ("1{,}234.5", 1234.5),
        ("12,345,678", 12345678.0),
        (r"\left|-|1|\right|", 1.0),
        (r"1\frac{1}{2}", 1.5),  # a mixed number
        (r"3\frac{\pi}{2}", 3 * math.pi / 2),  # a product
        ("((((((((((((1))))))))))))", 1.0),
    ],
)
def test_values_of_numbers_and_expressions_are_read(text: str, expected: float) -> None:
    assert value(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "2x", "e", "nan", "inf", "a sentence", "{", "\\", "(1,2)", "x=3", "1/0"),
        *("1 2", "1 1/2", "1 000", "1011_3", "1_3", "1,00", "1.5.2", "3*", "(1", "1)", "||", "²", "²3", r"\sin"),
        *(r"\frac{1}{0}", r"\sqrt{-1}", r"\infty", r"\int_0^1 2", r"\begin{pmatrix}1\end{pmatrix}"),
    ],
)
def test_what_has_no_value(text: str) -> None:
    assert value(text) is None


BOUND_S = 0.2  # hundreds of times what the slowest takes, tens of times less than a parser with look-ahead


@pytest.mark.parametrize(
    "text",
    [
        *("9^{9^{9}}", "99999!", r"\binom{1000000}{500000}", "1" + "+1" * MAX_CHARACTERS, "9" * 10**6),
        *(opening * 55 + "1" + closing * 55 for opening, closing in ("()", "[]", "{}")),
        *("|1" * 58 + "|", r"\frac" * 20 + "1", "((" * 60, "-" * 119 + "|", "2^" * 59 + "x"),
    ],
)
def test_huge_and_nested_texts_have_no_value_at_once(text: str) -> None:
    started = time.perf_counter()
    assert value(text) is None
    assert time.perf_counter() - started < BOUND_S


@given(st.text(alphabet="123.,+-*/^!°_|π()[]{}\\frac sqrtloginpe", max_size=MAX_CHARACTERS + 2))
@settings(max_examples=300)
def test_any_text_is_read_in_bounded_time(text: str) -> None:
    started = time.perf_counter()
    result = value(text)
    assert time.perf_counter() - started < BOUND_S
    assert result is None or math.isfinite(result)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "(" * 12 + "1" + ")" * 12,
            "[" * 12 + "1" + "]" * 12,
            "{" * 12 + "1" + "}" * 12,
            "(1+(2*(3-(4/(5+(6*(7-8)))))))",
        ),
        *(r"\log_{" * 8 + "2" + "}{8}" * 8, r"\frac{" * 6 + "1" + "}{2}" * 6, r"\sqrt{" * 10 + "2" + "}" * 10),
    ],
)
def test_nested_texts_are_read_at_once(text: str) -> None:
    value.cache_clear()
    started = time.perf_counter()
    assert value(text) is not None
    assert time.perf_counter() - started < BOUND_S


def test_a_worker_thread_may_ask() -> None:
    found: list[float | None] = []
    thread = threading.Thread(target=lambda: found.append(value(r"\frac{7}{8}")))
    thread.start()
    thread.join(timeout=30)
    assert found == [0.875]
