"""Mathematical answers: what counts as the same value, and that no answer takes long."""

import time

import pytest

from verl_axpo.rewards.answer import MAX_CHARS
from verl_axpo.rewards.math import compare, read

LIMIT_S = 0.5  # of processor time for a few comparisons; each takes milliseconds

# (answer, truth), each pair one value in two spellings
SAME = [
    # numbers
    ("5", "5"), ("5.", "5"), ("5.0", "5"), ("+5", "5"), (".5", "0.5"), ("{2}", "2"), ("1,234.50", "1234.5"),
    ("1{,}234", "1234"), ("\N{MINUS SIGN}3", "-3"), ("1.5e3", "1500"), ("2 \\times 10^{-3}", "0.002"),
    ("3\N{MULTIPLICATION SIGN}10^5", "300000"),
    # fractions: 1 1/2 = 3/2, and a decimal of six places is whatever rounds to it
    ("1/2", "0.5"), ("\\frac{3}{6}", "1/2"), ("\\dfrac12", "0.5"), ("-\\frac{1}{2}", "-0.5"), ("1 1/2", "1.5"),
    ("1\\frac{1}{2}", "3/2"), ("½", "0.5"), ("0.333333", "1/3"), ("\\frac{2}{3}", "0.666667"),
    ("0.30000000000000004", "0.3"),
    # percent: the sign may be left out, and 50 % is one half
    ("50%", "50\\%"), ("50", "50\\%"), ("0.5", "50\\%"), ("50\\%", "50"), ("50 percent", "0.5"),
    ("\\frac{1}{2}", "50%"),
    # units: one side may leave them out; 1.2 m = 120 cm, 18 km/h = 5 m/s, 1 L = 1000 cm^3, 100 cm^2 = 0.01 m^2
    ("12 cm", "12"), ("12", "12\\text{ cm}"), ("12cm", "12 centimeters"), ("1.2 m", "120 cm"), ("18 km/h", "5 m/s"),
    ("1 L", "1000 cm^3"), ("100 \\text{ cm}^2", "0.01 m²"), ("12 square centimetres", "12 cm^2"),
    ("90 min", "1.5 hours"),
    ("30^\\circ", "30"), ("30^{\\circ}", "30 degrees"), ("25 ^\\circ C", "25°C"), ("\\$5", "5"), ("$5", "5 dollars"),
    ("50 cents", "$0.50"), ("12 apples", "12"), ("12 square units", "12"), ("12\\text{ units}^2", "12 square units"),
    ("12 in.", "1 foot"),
    ("2\\sqrt{3}\\text{ cm}", "2\\sqrt{3}"),
    # typography
    ("$5$", "5"), ("\\(5\\)", "5"), ("\\text{Monday}", "monday"), ("\\boxed{5}", "5"), ("5", "\\boxed{5}"),
    # algebra
    ("2\\sqrt{2}", "\\sqrt{8}"), ("2√3", "\\sqrt{12}"), ("6.283185", "2\\pi"), ("x=5", "5"),
    ("5", "x = 5"), ("3:4", "\\frac{3}{4}"), ("4i+3", "3+4i"),
    ("3\\le x", "x\\ge 3"),
    # intervals, tuples, sets
    ("[1,2)", "[1, 2)"), ("\\left(1,2\\right]", "(1,2]"), ("x>3", "(3,\\infty)"), ("(3,∞)", "x > 3"),
    ("(2,\\infty)\\cup(-\\infty,1)", "(-\\infty,1)\N{UNION}(2,\\infty)"), ("(1, 0.5, 3)", "(1,\\frac{1}{2},3)"),
    ("\\{2,1\\}", "\\{1,2\\}"), ("2, 1", "1, 2"), ("x=1 or x=2", "1,2"), ("-2,2", "\\pm 2"),
]  # fmt: skip

DIFFERENT = [
    # numbers
    ("", "5"), ("  ", "5"), ("6", "5"), ("-5", "5"), ("0.33", "1/3"), ("3.14", "\\pi"), ("1000001", "1000000"),
    ("0.00000002", "0.00000001"), ("1/0", "0"), ("1/0", "1/0 + 1"),
    # percent and units
    ("0.5", "50"), ("5%", "0.5"), ("12 m", "12 cm"), ("1.2 m", "1.2 cm^2"), ("12 apples", "12 pears"), ("5%", "5 cm"),
    ("5 €", "5 dollars"), ("25°C", "25°F"), ("5 km", "5 km/h"), ("5 dozen", "5"),
    ("3 hundredths", "3"), ("5 million", "5"), ("3 units", "3 square units"),
    # a variable is no unit
    ("5m", "5"), ("2x", "2"), ("5 a", "5"), ("2 \\pi", "2"), ("2x m", "2x"),
    # algebra
    ("x+1", "x+2"), ("2y+1", "2x+1"), ("\\sqrt{8}", "3\\sqrt{2}"), ("x<3", "x>3"),
    # words are compared as words, not as products of their letters
    ("listen", "silent"), ("The answer is 5", "5"), ("5 and 6 apples", "5"),
    # intervals, tuples, sets
    ("[1,2)", "(1,2)"), ("(2,1)", "(1,2)"), ("(1,3,2)", "(1,2,3)"), ("\\{1,2\\}", "(1,2)"), ("3, 4", "3"),
    ("3 or 4", "3"), ("1", "1, 2"), ("1,2,3", "1,2"),
]  # fmt: skip


HOSTILE = {
    "tower": "9^{9^{9^{9}}}",
    "plain tower": "9^9^9^9",
    "power of a power": "10^{10^{10}}",
    "negative tower": "10^{-10^{10}}",
    "factorial": "(10^{10})!",
    "sum": "\\sum_{n=1}^{10^{9}} n^{n}",
    "expansion": "(x+y+z+w)^{300}",
    "powers of powers": "((((2^{900})^{900})^{900})^{900})",
    "roots of large numbers": "\\sqrt{2^{3999}}+" * 100 + "1",
    "product of large numbers": "\\frac{2^{3999}}{3^{2000}}" * 80,
    "large exponents of units": "5 m^{999999}",
    "integral towers": "\\int_0^1" * 60 + " x^{x^{x}} dx",
    "nested braces": "{" * 900 + "1" + "}" * 900,
    "nested brackets": "(" * 900 + "1" + ")" * 900,
    "nested fractions": "\\frac{1}{1+" * 150 + "x" + "}" * 150,
    "nested roots": "\\sqrt{x+" * 200 + "1" + "}" * 200,
    "nested functions": "\\cos(" * 100 + "1" + ")" * 100,
    "matrix": "\\begin{pmatrix}" + "1&2\\\\" * 200 + "\\end{pmatrix}",
    "a megabyte": "1+" * 500_000 + "1",
    "unbalanced": "\\frac{" * 300,
    "many items": "1," * 900 + "1",
    "many variables": "a+b+c+d+" * 240 + "z",
    "many scripts": "x_{" * 300,
    "primes": "x" + "'" * 1900,
    "many digits": "7" * 1990,
    "digits with a point": "7." + "3" * 1900,
    "many units": "5" + " kg m" * 300,
    "units and numbers": "5 m " * 400,
    "not text": "\x00\x01\ufffd$$\\",
}


@pytest.mark.parametrize(("answer", "truth"), SAME)
def test_spellings_of_one_value_are_equal(answer: str, truth: str) -> None:
    assert compare(answer, truth) is True


@pytest.mark.parametrize(("answer", "truth"), DIFFERENT)
def test_other_values_are_not_equal(answer: str, truth: str) -> None:
    assert compare(answer, truth) is False


def test_a_number_too_large_to_be_worked_out_is_undecided_but_equals_itself() -> None:
    assert compare("10^{10^{10}}", "42") is None
    assert compare("10^{10^{10}}", "10^{10^{10}}") is True


def test_an_answer_longer_than_the_limit_is_wrong_even_when_it_is_the_truth() -> None:
    assert compare("1" * (MAX_CHARS + 1), "1" * (MAX_CHARS + 1)) is False
    assert compare("1" * MAX_CHARS, "1" * MAX_CHARS) is True


@pytest.mark.parametrize("truth", ["42\\pi+1", "5 m", "\\begin{pmatrix}1\\\\2\\end{pmatrix}", "1,2,3", "x<5"])
@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_answer_is_never_right_and_never_takes_long(answer: str, truth: str) -> None:
    started = time.process_time()
    assert compare(answer, truth) in (False, None)
    assert compare(f"{answer} , {answer}", truth) in (False, None)
    assert time.process_time() - started < LIMIT_S


PIECES = [
    "(", "°", "°C", "€", "a", "\\text{", "1,", "square ", "cm^2 ", "\\frac{", "- ", "√(", "^{", "per ", "$", "\\left",
    "1 ",
    "1/", "1 1/", "1 000 ", "x'", "_", "|", "\\\\", "&", "\\{", "[", "\\boxed{", "⅓", "²", "$1", "3e9", "m ", "5 m",
    "AB", "@",
    "\\sqrt", "\\pm ", "=", "<", "x<", ":", "米", "\\begin{array}", "\\text{a}", "or ", "2^", "\\sin", "*", "平方米",
    "1.5", ".",
]  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
def test_a_comparison_is_quick_on_anything(piece: str) -> None:
    answer = (piece * MAX_CHARS)[:MAX_CHARS]
    started = time.process_time()
    compare(answer, "5 m")
    compare("7" + answer[:-2] + "!", "5 m")
    compare("x = " + answer[:-4], "\\frac{1}{2}")
    assert time.process_time() - started < LIMIT_S


def test_a_text_of_any_length_is_typed_at_once() -> None:
    started = time.process_time()
    assert read("1+" * 500_000) is None
    assert time.process_time() - started < LIMIT_S


@pytest.mark.parametrize("text", ["2-1", "555-1234", "2021-03-05", "12/25/2020", "17\\times 23"])
def test_what_is_still_to_be_worked_out_is_read_as_unfinished(text: str) -> None:
    items = read(text)
    assert items is not None
    assert not items[0].is_finished


def test_a_date_is_no_subtraction() -> None:
    assert compare("2021/03/05", "2021-03-05") is True
    assert compare("2021-05-03", "2021-03-05") is False
