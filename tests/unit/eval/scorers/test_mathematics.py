r"""Mathematical equality as MATH-V and VLMEvalKit define it, and answers of several parts."""

import time

import pytest

from verl_axpo.eval.scorers import mathematics as m
from verl_axpo.eval.scorers.tidying import without_unit


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        # Text and plain numbers; both sides are rounded to 2 decimals.
        ("42", "42", True),
        ("42.0", "42", True),
        ("42.004", "42", True),
        ("41.996", "42", True),
        ("42.01", "42", False),
        ("-3", "3", False),
        ("- 3", "-3", True),
        (".5", "0.5", True),
        ("1,000", "1000", True),
        (r"7\,000", "7000", True),
        ("ABC", "abc", True),
        ("seven", "7", False),
        ("", "", False),
        (" ", "7", False),
        ("7", "", False),
        # LaTeX.
        (r"\frac{1}{3}", "0.33", True),
        ("1/3", "0.33", True),
        (r"\dfrac{1}{2}", "0.5", True),
        (r"\frac12", "0.5", True),
        (r"2\pi", "6.28", True),
        (r"2\pi", "6.27", False),
        (r"\sqrt{2}", "1.41", True),
        (r"3\sqrt3", "5.2", True),  # 5.196 rounds to 5.2
        (r"\frac{\sqrt{3}}{2}", "0.87", True),  # 0.866
        ("2^{10}", "1024", True),
        ("10!", "3628800", True),
        (r"\log_{2}{8}", "3", True),
        ("4:3", "8:6", True),  # a ratio is a quotient
        # Wrapping, units, signs.
        ("$7$", "7", True),
        (r"\text{7}", "7", True),
        (r"\mathbf{7}", "7", True),
        (r"\boxed{6}, no: \boxed{7}", "7", True),
        (r"\boxed{7}, no: \boxed{6}", "7", False),
        ("7.", "7", True),
        (r"\$7", "7", True),
        (r"50\%", "50", True),
        ("50%", "50", True),
        (r"45^\circ", "45", True),
        ("45°", "45", True),
        (r"45^{\circ}", "45", True),
        ("5 km", "5", True),
        ("8m^3", "8", True),
        ("3 units", "3", True),
        (r"5\text{ cm}", "5", False),  # a unit that the official code does not know
        # After the last sign, after the announcing words.
        ("x=7", "7", True),
        ("x=y=7", "7", True),
        (r"x\approx 7.004", "7", True),
        (r"x=\frac{14}{2}", "7", True),
        ("The answer is 7", "7", True),
        ("the final answer is: 7.", "7", True),
        ("So it is 7.", "7", True),
        ("7 and 8", "7", False),
        # Tuples and intervals, element by element; brackets count.
        ("(1,2)", "(1,2)", True),
        ("( 1, 2 )", "(1,2)", True),
        ("(1.0,2.001)", "(1,2)", True),
        (r"\left(\frac{1}{2},2\right)", "(0.5,2)", True),
        ("[1,2]", "(1,2)", False),
        ("(1,3)", "(1,2)", False),
        ("(1,2,3)", "(1,2)", False),
        # What has no value.
        ("2x+1", "2x+1", True),
        ("2x+1", "1+2x", False),  # the official code evaluates, it does not simplify
        (r"+\infty", r"\infty", True),
        ("e", "2.718", False),  # a letter, not the constant
        ("9^{9^{9}}", "1", False),  # overflows at once instead of hanging
    ],
)
def test_equal_values_are_equal_in_our_verdict(answer: str, truth: str, expected: bool) -> None:
    assert m.is_equal(answer, truth) is expected


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        ("(B)", "B", True),
        ("{b}", "B", True),
        (r"\text{(B)}", "B", True),
        (r"$\boxed{\text{(B) }}$", "B", True),
        ("The correct answer is (B).", "B", True),
        (r"The answer is \text{B}.", "B", True),
        ("B\nbecause", "B", True),
        ("So it is 7.", "7", True),
        (r"\boxed{45^{\circ}}", "45", True),
        ("6.28", r"2\pi", True),
        # What only `is_equal` removes: signs, fonts, and the typesetting of the truth.
        ("45°", "45", False),
        ("50%", "50", False),
        (r"\mathbf{7}", "7", False),
        (r"\frac12", "0.5", False),
        (r"1\frac{1}{2}", "1.5", False),  # officially a product
        ("\u22125", "-5", False),
        ("45", r"$45^{\circ}$", False),
        ("", "7", False),
    ],
)
def test_equal_by_the_rules_of_math_v(answer: str, truth: str, expected: bool) -> None:
    assert m.mathv_equal(answer, truth) is expected
    assert m.is_equal(answer, truth) is (expected or answer != "")


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        # A space between digits: a mixed number, a group of three, or no number at all.
        ("11/2", "1 1/2", False),
        ("23/4", "2 3/4", False),
        ("12", "1 2", False),
        ("21/3", "2 1/3", False),
        (r"1\ 1/2", "11/2", False),
        ("x = 11/2", "1 1/2", False),
        ("(1 2, 3)", "(12,3)", False),
        ("3/2", "1 1/2", True),
        (r"1 \frac{1}{2}", "1 1/2", True),
        ("-1 1/2", "-1.5", True),
        ("x = 1 1/2", "1.5", True),
        ("10 000", "10000", True),
        (r"10\,000", "10000", True),
        ("1 234 567.5", "1234567.5", True),
        ("1 2", "1 2", True),
        # A chain whose values differ states nothing; a rounded one does.
        ("6=5", "5", False),
        ("3+3=5", "5", False),
        ("x=6=5", "5", False),
        (r"6 \equiv 5", "5", False),
        (r"x=6\\x=5", "5", False),
        ("10-3=7", "7", True),
        (r"\frac{1}{3}\approx 0.3", "0.3", True),
        (r"60^\circ=\frac{\pi}{3}", r"\frac{\pi}{3}", True),
        ("50%=0.5", "0.5", True),
        # Two values that both round to nothing.
        (r"10^{-21}", r"10^{-20}", False),
        (r"\frac{1}{20!}", r"\frac{1}{19!}", False),
        ("0.001", "0.002", False),
        (r"\sin\pi", "0", True),
        ("0.001", r"\frac{1}{1000}", True),
        # Bases and primes.
        ("1011_3", "1011_2", False),
        ("1011_3", "10113", False),
        ("f'(x)=2", "f(x)=2", False),
    ],
)
def test_a_value_is_what_is_written(answer: str, truth: str, expected: bool) -> None:
    assert m.is_equal(answer, truth) is expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (r"3 \text{ cm}^2", "3"),
        ("3 cm", "3"),
        ("3cm", "3"),
        (r"3\,\mathrm{m/s}", "3"),
        (r"\frac{1}{2} square meters", r"\frac{1}{2}"),
        (r"3\text{ m}\cdot\text{s}^{-1}", "3"),
        ("3 m", "3"),
        ("3 \u5398\u7c73", "3"),
        ("2x", "2x"),
        ("2 x", "2 x"),
        ("3 million", "3 million"),
        (r"3\pi", r"3\pi"),
        ("3^2", "3^2"),
        ("cm", "cm"),
    ],
)
def test_a_unit_is_known_by_its_form(answer: str, expected: str) -> None:
    assert without_unit(answer) == expected


@pytest.mark.parametrize("piece", ["=", "1=", "x=1,", "1 a ", "1cm", "(", "1 1/2 ", "1 000 ", ") ", "\\text{", "a "])
def test_a_long_answer_is_compared_at_once(piece: str) -> None:
    text = (piece * 1000)[:1000]
    started = time.perf_counter()
    assert not any((m.is_equal(text, "12"), m.is_equal("12", text), m.mathv_equal(text, "12"), m.stated_value(text)))
    assert time.perf_counter() - started < 3.0  # some 0.2 s on an idle machine


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        ("7", "7.0", True),
        (r"\dfrac{1}{2}", "0.5", True),
        (r"\tfrac{1}{2}", "0.5", True),
        (r"58^\circ", "58", True),
        (r"58^{\circ}", "58", True),
        ("7.0000001", "7", True),
        ("7.00001", "7", False),  # 1e-5 is past 1e-6
        (r"\frac{1}{2}", "0.5", True),
        ("Blue", "blue", True),
        ("0.33", r"\frac{1}{3}", False),
        ("", "7", False),
    ],
)
def test_equal_by_the_rules_of_vlmevalkit(answer: str, truth: str, expected: bool) -> None:
    assert m.vlmevalkit_equal(answer, truth) is expected


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [
        ("3", 1, ["3"]),
        ("(1) 3 (2) 5", 2, ["3", "5"]),
        ("(1) 3; (2) 5", 2, ["3", "5"]),
        ("① 3 ② 5", 2, ["3", "5"]),
        ("Part 1: 3, Part 2: 5", 2, ["3", "5"]),
        ("3; 5", 2, ["3", "5"]),
        ("3\uff1b5", 2, ["3", "5"]),  # a full-width semicolon
        ("3\n5", 2, ["3", "5"]),
        ("1) 3\n2) 5", 2, ["3", "5"]),
        ("3, 5", 2, ["3", "5"]),
        ("(1,2), (3,4)", 2, ["(1,2)", "(3,4)"]),
        ("3 and 5", 2, ["3", "5"]),
        (r"\boxed{3; 5}", 2, ["3", "5"]),
        ("3, 5", 3, ["3, 5"]),  # not three parts: the whole
    ],
)
def test_an_answer_is_split_into_its_parts(text: str, count: int, expected: list[str]) -> None:
    assert m.parts(text, count) == expected


@pytest.mark.parametrize(
    ("answer", "truth", "count", "expected"),
    [
        ("(1) 3 (2) 5", "3; $x=5$", 2, True),
        (r"\frac{1}{2}, 5", "0.5; 5", 2, True),
        ("5; 3", "3; 5", 2, False),  # order counts
        ("3", "3; 5", 2, False),
        ("3; 6", "3; 5", 2, False),
        ("(1,2)", "(1,2)", 1, True),
        ("", "3; 5", 2, False),
        ("k=-1 or k=3", "k=1 or k=3", 2, False),
        ("k=-1 or k=3", "k = -1 or k = 3", 2, True),
        ("(1) x=5; y=2 (2) 7", "(1) x=1; y=2 (2) 7", 2, False),
        ("(1) x=5; y=2 (2) 7", "(1) x=5, y=2 (2) S=7", 2, True),
        ("AB=5, S=7", "5; 7", 2, True),
        ("AB=5, S=7", "CD=5, S=7", 2, False),
        # What does not split into `count` parts equals only itself.
        ("AB=5, BC=6, S=7", "AB=3, BC=4, S=7", 2, False),
        ("AB=5, BC=6, S=7", "$AB = 5, BC = 6, S = 7$", 2, True),
        ("(2) 3", "6", 2, False),  # as a product it would be 6
        ("7.0", "7", 2, False),
        ("7", "7", 2, True),
    ],
)
def test_every_part_must_be_right(answer: str, truth: str, count: int, expected: bool) -> None:
    assert m.all_equal(answer, truth, count) is expected
    assert m.all_equal(truth, answer, count) is expected


def test_a_text_of_more_than_1000_characters_is_no_answer() -> None:
    assert m.all_equal("x" * 1000, "x" * 1000, 1)
    assert not m.all_equal("x" * 1001, "x" * 1001, 1)
    assert not m.all_equal("x" * 1001, "x" * 1001, 2)


@pytest.mark.parametrize(
    ("answer", "truth", "expected"),
    [
        # One value, with or without what it is of.
        ("x=7", "x = 7", True),
        ("x=7", "y=7", False),
        (r"\angle A=30^\circ", "30°", True),
        ("x_{1}=7", "x_1=7", True),
        ("a+b=7", "7", True),
        ("P(X=1)=0.3", "0.3", True),
        ("P(X=1)=0.3", "P(X=2)=0.3", False),
        # Chains.
        ("x=y=7", "7", True),
        ("x=y=7", "y=7", True),
        ("x=y=7", "z=7", False),
        (r"S=\frac{1}{2}\cdot 3\cdot 4=6", "S=6", True),
        (r"AB=\sqrt{AC^2+BC^2}=5", "5", True),
        (r"S=2 \pi r=6", "6", True),
        # Several statements: every one counts, in order.
        ("x=5, y=2", "x=1, y=2", False),
        ("x=5 or x=2", "x=1 or x=2", False),
        ("x=5, y=2", "x = 5; y = 2", True),
        ("$x=5$ and $y=2$", r"x=5,\;y=2", True),
        (r"x=5 \text{ or } x=2", "$x=5$ or $x=2$", True),
        ("y=2, x=5", "x=5, y=2", False),  # for the judge
        ("x=5, y=2", "y=2", False),
        ("x=5, y=2", "2", False),
        (r"\begin{cases}x=5\\y=2\end{cases}", r"\begin{cases}x=1\\y=2\end{cases}", False),
        (r"\begin{cases}x=5\\y=2\end{cases}", r"\begin{cases} x = 5 \\ y = 2 \end{cases}", True),
        ("(x=5, y=2)", "(x=1, y=2)", False),
        ("A=(1,2), B=(3,4)", "A=(0,2), B=(3,4)", False),
        ("A=(1,2), B=(3,4)", "A = (1, 2); B = (3, 4)", True),
        # Signs that form no chain: only the same text.
        ("x=5 y=2", "x=1 y=2", False),
        ("x=5 y=2", "y=2", False),
        ("x=5 y=2", "2", False),
        ("x=5 y=2", "x = 5 y = 2", True),
        (r"\angle A=30^\circ \angle B=60^\circ", "60", False),
        (r"x=5 \Rightarrow y=2", "2", False),
        # Inequalities: only the same text.
        ("x<=3", "x>=3", False),
        ("x<=3", "x <= 3", True),
        ("x>=3", "3", False),
        (r"x\leq 3", r"x\geq 3", False),
        ("1<=x<=3", "0<=x<=3", False),
        (r"x \ne 3=y", r"x \ne -3=y", False),
        # Equations: the left side says as much as the right one.
        ("(x-1)^2+y^2=4", "(x+1)^2+y^2=4", False),
        ("x^{2}+y^{2}=4", "x^2+y^2=4", True),
        ("x^2+y^2=4", "4", False),
        ("x-7=0", "0", False),
        ("y^2=4x", "y=4x", False),
        ("2x+3=7", "x=7", False),
        ("y=2x+1", "2x+1", True),
        ("f(x)=2x+1", "2x+1", True),
        (r"\sum_{i=1}^{n} i", r"\prod_{i=1}^{n} i", False),
    ],
)
def test_nothing_that_is_stated_is_dropped(answer: str, truth: str, expected: bool) -> None:
    assert m.is_equal(answer, truth) is expected
    assert m.is_equal(truth, answer) is expected
