"""Typesetting is removed from an answer; which text of a response is scored."""

import pytest

from verl_axpo.eval.scorers.tidying import undress
from verl_axpo.rewards.answer import final_answer


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("7", "7"),
        (" 7 ", "7"),
        ("$7$", "7"),
        ("$$7$$", "7"),
        (r"\(7\)", "7"),
        (r"\[7\]", "7"),
        ("**7**", "7"),
        ("`7`", "7"),
        ('"Paris"', "Paris"),
        (r"\boxed{7}", "7"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"\boxed{6} \boxed{7}", "7"),
        (r"\text{B}", "B"),
        (r"$\mathbf{B}$", "B"),
        (r"\textbf{(B)} blue", "(B) blue"),
        ("$5$ and $6$", "5 and 6"),
        (r"it is \(5\,m\)", "it is 5 m"),
        (r"x=5,\ y=2", "x=5, y=2"),  # the command is the backslash with its space
        ("5~m", "5 m"),
        (r"x\\ y", r"x\\ y"),  # a line break, and then a space
        (r"\sin 5", r"\sin 5"),
        (r"\frac{1}{2}", r"\frac{1}{2}"),
        ("$", "$"),
        ("", ""),
    ],
)
def test_typesetting_is_removed(answer: str, expected: str) -> None:
    assert undress(answer) == expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (r"so B.</think><answer>\boxed{B}</answer>", "B"),
        (r"<answer>\boxed{A}</answer></think><answer>\boxed{B}</answer>", "B"),  # the first is thinking
        (r"<answer>\boxed{A}</answer></think>", None),
        (r"x</think><answer>\boxed{A}, no, \boxed{B}</answer>", "B"),
        ("x</think><answer>B</answer>", "B"),
        (r"x</think>\boxed{B}", None),  # no answer tags
        ("x</think><answer></answer>", ""),
    ],
)
def test_from_a_response_to_the_answer_that_is_scored(response: str, expected: str | None) -> None:
    assert final_answer(response) == expected
