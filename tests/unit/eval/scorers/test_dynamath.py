"""DynaMath's rules: floats within 0.001, π, letters, substrings; and where we read more than the official code."""

import math

import pytest

from verl_axpo.eval.scorers import dynamath

FLOAT, CHOICE, TEXT = "float", "multiple choice", "text"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", 12.0),
        ("12.5 cm", 12.5),
        ("-3", -3.0),
        ("1e-3", 0.001),
        ("2π", 2 * math.pi),
        ("-0.5π", -0.5 * math.pi),
        ("2π/3", 2 * math.pi),  # what follows π is ignored, as in the official code
        ("π", None),
        ("12cm", None),
        ("1,000", None),
        ("²", None),  # a digit by its Unicode class, no number
        ("", None),
    ],
)
def test_numbers_are_read_as_floats(text: str, expected: float | None) -> None:
    assert dynamath.as_float(text) == expected


@pytest.mark.parametrize(
    ("answer", "truth", "answer_type", "expected"),
    [
        ("2.094", "2.0944", FLOAT, True),  # off by 0.0004
        ("2.093", "2.0944", FLOAT, False),  # off by 0.0014
        ("2.001", "2", FLOAT, True),
        ("2.0011", "2", FLOAT, False),
        ("2π", "6.2832", FLOAT, True),
        ("6.283 cm", "6.2832", FLOAT, True),
        ("6.283cm", "6.2832", FLOAT, False),
        ("nan", "1", FLOAT, False),
        ("", "1", FLOAT, False),
        ("A", "A", CHOICE, True),
        ("a", "A", CHOICE, False),
        ("(A) yes", "A", CHOICE, True),
        ("A. yes", "A", CHOICE, True),
        ("B or A", "A", CHOICE, False),  # "B o"
        ("Any", "A", CHOICE, True),  # the first three characters hold an A
        ("The answer is A", "A", CHOICE, False),
        ("", "A", CHOICE, False),
        ("May", "May", TEXT, True),
        ("in May 2020", "May", TEXT, True),
        ("may", "May", TEXT, False),
        ("", "May", TEXT, False),
        ("(3,-5)", "(3, -5)", TEXT, False),
        ("5", "5.000000000000001", "int", False),  # by the official code an int is text
        ("149 people", "49", "single answer", True),  # a substring
    ],
)
def test_scores_by_the_official_code(answer: str, truth: str, answer_type: str, expected: bool) -> None:
    assert dynamath.official(answer, truth, answer_type) is expected


@pytest.mark.parametrize(
    ("answer", "truth", "answer_type", "expected"),
    [
        ("2.094", "2.0944", FLOAT, True),
        ("2π/3", "2.0944", FLOAT, False),
        ("b", "B", CHOICE, True),
        ("the answer: B", "B", CHOICE, False),  # A, B and E all occur in it
        ("Or B", "B", CHOICE, True),
        ("Ma", "May", TEXT, True),  # the answer inside the truth
        ("May 1", "May", TEXT, False),
        ("MAY", "May", TEXT, True),
    ],
)
def test_scores_by_the_rules_of_vlmevalkit(answer: str, truth: str, answer_type: str, expected: bool) -> None:
    assert dynamath.vlmevalkit(answer, truth, answer_type) is expected


@pytest.mark.parametrize(
    ("answer", "truth", "answer_type", "expected"),
    [
        (r"$2.094$", "2.0944", FLOAT, True),
        (r"\frac{2\pi}{3}", "2.0944", FLOAT, True),  # the official code cannot read it
        (r"2\pi", "6.2832", FLOAT, True),
        ("2π/3", "2.0944", FLOAT, True),  # it reads this, as 2π
        ("2π/3", "6.2832", FLOAT, False),
        ("1 1/2", "1", FLOAT, False),  # and this as 1
        ("1 1/2", "1.5", FLOAT, True),
        *(
            (text, "0.5", FLOAT, True)
            for text in (r"\dfrac{1}{2}", r"\tfrac12", r"\frac12", "1/2", r"\left(\frac{1}{2}\right)")
        ),
        *(
            (text, "58", FLOAT, True)
            for text in (r"58^\circ", r"58^{\circ}", "58°", "58 degrees", r"58\text{ degrees}")
        ),
        *(
            (text, "12", FLOAT, True)
            for text in ("x = 12", "x=12", r"$x = 12$", r"\approx 12", "≈ 12", r"x \approx 12.0")
        ),
        *(
            (text, "12", FLOAT, True)
            for text in ("12 cm", "12cm", r"12\,\text{cm}", r"12 \text{ cm}^2", "12 m/s", "12 m")
        ),
        *(
            (text, "12", FLOAT, True)
            for text in ("The answer is 12.", "approximately 12", r"\boxed{12}", r"x = y = 12")
        ),
        *((text, "12", FLOAT, False) for text in ("12 or 13", "x = 12, y = 13", "12x", "1 2", "x = 13 = 12.5", "120")),
        *((text, "12", FLOAT, False) for text in ("not 12", "12 million", "x > 12", "12_3", "1,2", "")),
        (r"\sqrt{2}", "1.4142", FLOAT, True),
        (r"\text{May}", "May", TEXT, True),
        ("(3,-5)", "(3, -5)", TEXT, True),
        ("may", "May", TEXT, True),
        ("may be", "May", TEXT, False),
        ("5", "5.000000000000001", "int", True),
        ("-15.7", "-15.700000000000001", "int", True),
        ("-15.6", "-15.700000000000001", "int", False),
        *((text, "58", FLOAT, True) for text in ("58°C", r"58^\circ C", r"\theta = 58^{\circ}")),
        ("2pi", "6.2832", FLOAT, True),
        ("2*pi", "6.2832", FLOAT, True),
        ("49", "49", "single answer", True),
        ("149", "49", "single answer", False),  # officially right: it holds the truth
        (r"\dfrac{10}{2}", "5.000000000000001", "int", True),
        ("(3, -5)", "(3,-5)", "single answer", True),
    ],
)
def test_our_verdict_reads_more_than_the_official_code(
    answer: str, truth: str, answer_type: str, expected: bool
) -> None:
    assert dynamath.lenient(answer, truth, answer_type) is expected
