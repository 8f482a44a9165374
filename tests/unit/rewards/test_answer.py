"""Which text of a response counts as the answer."""

import time

import pytest

from verl_axpo.rewards.answer import boxed, final_answer, opened


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("hm\n</think>\n\n<answer>\\boxed{bars}</answer>", "bars"),
        ("hm\n</think>\n\n<answer>bars</answer>", "bars"),
        ("</think><answer>lines</answer> or <answer>bars</answer>", "bars"),
        ("</think><answer>\\boxed{lines}, no: \\boxed{\\frac{1}{2}}</answer>", "\\frac{1}{2}"),
        ("</think><answer>\\boxed{}</answer>", ""),
        ("</think><answer>\\boxed{bars</answer>", "\\boxed{bars"),
        ("</think><answer><answer>bars</answer>", "bars"),
        ("</think>\\boxed{bars}", None),
        ("</think><answer>bars", None),
        ("it could be <answer>lines</answer></think> I do not know", None),
        ("", None),
        # A tool's output is no answer, and neither is the thinking after it.
        ("</think><tool_response><answer>bars</answer></tool_response><think>\nhm", None),
        (
            "</think><answer>lines</answer><tool_response>x</tool_response><think>\nhm</think><answer>bars</answer>",
            "bars",
        ),
    ],
)
def test_the_final_answer_is_found(response: str, answer: str | None) -> None:
    assert final_answer(response) == answer


@pytest.mark.parametrize(
    ("response", "answer", "without"),
    [
        ("so <answer>bars</answer>. But wait, let me", None, "bars"),  # cut off, or ended, inside its thinking
        ("hm</think><answer>bars</answer>", "bars", "bars"),
        ("hm</think><tool_response>x</tool_response><think>\nso <answer>bars</answer>", None, None),
        ("<think>\nso <answer>bars</answer>", None, None),
    ],
)
def test_an_answer_in_thinking_that_never_closes_is_none(
    response: str, answer: str | None, without: str | None
) -> None:
    """`without`: of a model that does not think, whose prompt opens nothing."""
    assert final_answer(response, starts_in_think=True) == answer
    assert final_answer(response) == without


def test_boxed_takes_the_last_box_with_its_braces() -> None:
    assert boxed("\\boxed{1} \\boxed{\\{1, 2\\}}") == "\\{1, 2\\}"
    assert boxed("1") is None
    assert boxed("\\boxed{1} \\boxed{2") is None
    assert boxed("\\boxed{\\boxed{1}, \\boxed{2}}") == "\\boxed{1}, \\boxed{2}"


def test_an_opened_text_keeps_what_stands_around_its_boxes() -> None:
    assert opened("\\boxed{1} and \\boxed{\\frac{1}{2}}") == "1 and \\frac{1}{2}"
    assert opened("B") == "B"
    assert opened("\\boxed{B") == "\\boxed{B"


@pytest.mark.parametrize("piece", ["<answer>", "</answer>", "\\boxed{", "{", "<think>", "x"])
def test_a_megabyte_of_anything_is_read_at_once(piece: str) -> None:
    response = "<answer>" + piece * (1_000_000 // len(piece)) + "</answer>"
    started = time.process_time()
    opened(final_answer(response) or response)
    assert time.process_time() - started < 2  # linear: about 0.1 s
