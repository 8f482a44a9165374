"""What a mathematical answer states: chains are one statement, separated signs several, inequalities none."""

import pytest

from verl_axpo.eval.scorers import relations


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", [["7"]]),
        ("x=7", [["x", "7"]]),
        (r"x=y\approx 7", [["x", "y", " 7"]]),
        ("x=5;y=2", [["x", "5"], ["y", "2"]]),
        ("x=5,y=2", [["x", "5"], ["y", "2"]]),
        (r"x=5\\y=2", [["x", "5"], ["y", "2"]]),
        (r"x=5\quad y=2", [["x", "5"], [" y", "2"]]),
        ("x=5, and y=2", [["x", "5"], [" y", "2"]]),
        ("x=y=7, z=2", [["x", "y", "7"], [" z", "2"]]),
        ("x=1,000", [["x", "1,000"]]),  # one sign: the comma is the value's
        ("5, 7", [["5, 7"]]),
        ("P(X=1)=0.3", [["P(X:1)", "0.3"]]),
        ("(x=5, y=2)", [["(x:5, y:2)"]]),
        ("A=(1,2)=B", [["A", "(1,2)", "B"]]),
        # Nothing that could be compared by value.
        ("x<3", []),
        ("x≥3", []),
        ("x!=3", []),
        (r"x\leqslant 3", []),
        (r"x=5, y\ne 2", []),
        ("x=5 y=2", []),
        ("x=5: y=2", []),
        (r"x=5 \Rightarrow y=2", []),
        (r"f(x\approx 2)=5", []),
        # Commands that only look like signs.
        (r"\left(1,2\right)", [[r"\left(1,2\right)"]]),
        (r"x\approxeq 7", [[r"x\approxeq 7"]]),
    ],
)
def test_an_answer_is_split_into_statements(text: str, expected: list[list[str]]) -> None:
    assert relations.statements(text) == expected


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        ("x", False),
        ("x_1", False),
        ("x_{n+1}", False),
        ("f(x+1)", False),
        ("xy", False),
        ("a+b", False),
        (r"\frac{ab}{cd}", False),
        ("2x", True),
        ("x-7", True),
        ("x^2+y^2", True),
        ("|x|", True),
        (r"\frac{x}{y}", True),
        ("x(x+1)", True),
    ],
)
def test_equations_are_told_from_names_with_a_value(left: str, expected: bool) -> None:
    assert relations.is_equation(left) is expected
