"""Binary outcome reward: exact match of the final answer (paper, section 2).

    decoded response -> final_turn() -> final_answer() -> normalise -> == ground truth -> 1.0 or 0.0

verl calls `compute_score` (`reward.custom_reward_function.path=pkg://verl_axpo.rewards.outcome`).
"""

import re
from typing import Any

_ANSWER = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)
_BOXED = "\\boxed{"


def final_turn(response: str) -> str:
    """What the last assistant turn says after its thinking.

    A response starts inside the thinking of its first turn; each later turn opens with `<think>`. Text of tools stands
    before that tag, so an `<answer>` in a tool's output or in the thinking is not an answer.
    """
    turn = response.rpartition("<think>")[2]
    return turn.rpartition("</think>")[2]


def boxed(text: str) -> str | None:
    r"""Content of the last `\boxed{...}`, braces balanced; None when there is none or it never closes."""
    start = text.rfind(_BOXED)
    if start < 0:
        return None
    depth, begin = 1, start + len(_BOXED)
    for position in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[begin:position]
    return None


def final_answer(response: str) -> str | None:
    r"""The last complete `<answer>` of the final turn, the `\boxed{}` inside it preferred; None when missing."""
    answers = _ANSWER.findall(final_turn(response))
    if not answers:
        return None
    inside = boxed(answers[-1])
    return answers[-1] if inside is None else inside


def normalise(text: str) -> str:
    """Case and the amount of white space do not matter."""
    return " ".join(text.split()).casefold()


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any] | None = None, **_: Any
) -> float:
    """1.0 when the final answer equals `ground_truth`, else 0.0 (a missing answer is wrong).

    The signature is the one verl's reward managers call (`verl/experimental/reward_loop/reward_manager/naive.py`).
    """
    found = final_answer(solution_str)
    return float(found is not None and normalise(found) == normalise(str(ground_truth)))
