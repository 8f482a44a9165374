"""The outcome reward: which text counts as the answer."""

import pytest
from verl.utils.import_utils import load_extern_object

from verl_axpo import prompts
from verl_axpo.rewards.outcome import compute_score, final_answer


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("hm\n</think>\n\n<answer>\\boxed{bars}</answer>", "bars"),
        ("hm\n</think>\n\n<answer>bars</answer>", "bars"),
        ("</think><answer>lines</answer> or <answer>bars</answer>", "bars"),
        ("</think><answer>\\boxed{lines}, no: \\boxed{\\frac{1}{2}}</answer>", "\\frac{1}{2}"),
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
def test_final_answer(response: str, answer: str | None) -> None:
    assert final_answer(response) == answer


@pytest.mark.parametrize(
    ("text", "score"), [("bars", 1.0), (" BARS\n", 1.0), ("lines", 0.0), ("bars lines", 0.0), ("", 0.0)]
)
def test_score_is_an_exact_match_up_to_case_and_space(text: str, score: float) -> None:
    response = prompts.assistant_turn("hm", prompts.answer(text))["content"]
    assert compute_score("tiny/perception", response, "bars", {}) == score


def test_a_missing_answer_is_wrong_even_when_the_truth_is_empty() -> None:
    assert compute_score("tiny/perception", "hm</think>", "") == 0.0


def test_verl_finds_the_function_under_its_configured_name() -> None:
    assert load_extern_object("pkg://verl_axpo.rewards.outcome", "compute_score") is compute_score
