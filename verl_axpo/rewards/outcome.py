"""The binary outcome reward (paper, section 2), in the form that verl's reward loop calls.

    decoded response -> final_answer() -> answer_type_of() -> grader -> Grade -> + bonus - penalty -> {"score"}
                                                                  |_ InfraFailure -> {"infra_failure": 1.0}

verl calls `compute_score` (`reward.custom_reward_function.path=pkg://verl_axpo.rewards.outcome`) with the row and with
`reward.custom_reward_function.reward_kwargs`, which are the fields of `RewardConfig`. What earns what: docs/rewards.md.
"""

import logging
from collections.abc import Mapping
from typing import Any

from verl_axpo.errors import InfraFailure
from verl_axpo.rewards.answer import STARTS_IN_THINK, final_answer
from verl_axpo.rewards.config import RewardConfig
from verl_axpo.rewards.graders import GRADERS, Case, Grade, answer_type_of

logger = logging.getLogger(__name__)


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
    **reward_kwargs: Any,
) -> dict[str, float]:
    """Grade one response.

    The signature is the one verl's reward managers call (`verl/experimental/reward_loop/reward_manager/naive.py`).

    Args:
        data_source: the row's; chooses the answer type where `extra_info` does not.
        solution_str: the decoded response, tool responses included, special tokens left out.
        ground_truth: a text or a number.
        extra_info: the row's, what verl's tool loop adds to it, and `starts_in_think` from our worker.
        reward_router_address: verl passes it when it hosts a reward model; not used.
        reward_model_tokenizer: likewise.
        reward_kwargs: the fields of `RewardConfig`.

    Returns:
        `score`, what is trained on; `acc`, 1.0 for a correct answer; `answered`, 0.0 where no final answer was found;
        `undecided`, 1.0 where a number is too large to be compared (wrong); `infra_failure`, 1.0 where there
        is no reward. The same keys every time, as verl's batches need.

    Raises:
        ValueError: the configuration or the row is wrong.
        InfraFailure: no reward could be computed and `on_infra_failure` is `raise`.
    """
    config = RewardConfig.from_mapping(reward_kwargs)
    row = extra_info or {}
    kind = answer_type_of(data_source, row, config)
    answer = final_answer(solution_str, starts_in_think=bool(row.get(STARTS_IN_THINK)))
    bonus = _for_tool_use(row, config)
    grade, failed = Grade(correct=False), False
    try:
        grade = await _grade(kind, answer, ground_truth, row, config)
    except InfraFailure as failure:
        if config.on_infra_failure == "raise":
            raise
        logger.warning("no reward: %s", failure)
        failed = True
    return {
        "score": 0.0 if failed else grade.correct + bonus,
        "acc": float(grade.correct),
        "answered": float(answer is not None),
        "undecided": float(grade.undecided),
        "infra_failure": float(failed),
    }


async def _grade(
    kind: str, answer: str | None, ground_truth: Any, row: Mapping[str, Any], config: RewardConfig
) -> Grade:
    """A missing answer is wrong whatever the truth."""
    if isinstance(ground_truth, bool) or not isinstance(ground_truth, str | int | float):
        raise ValueError(
            f"reward: got the ground truth {ground_truth!r} ({type(ground_truth).__name__}), expected text or number; "
            "further accepted answers go into extra_info.aliases (short_text, judge)"
        )
    if answer is None:
        return Grade(correct=False)
    return await GRADERS[kind](Case(answer=answer, truth=str(ground_truth), extra_info=row, config=config))


def _for_tool_use(row: Mapping[str, Any], config: RewardConfig) -> float:
    """What tool use adds to the reward: verl's tool loop lists a number for each call it answered."""
    if config.tool_bonus == config.tool_penalty:  # both are 0
        return 0.0
    answered_calls = row.get("tool_rewards")
    if answered_calls is None:
        raise ValueError(
            "reward: tool_bonus and tool_penalty need extra_info.tool_rewards, which verl's tool agent loop writes "
            "and this row does not have; use the agent loop axpo_tool_agent or tool_agent, or set both to 0"
        )
    return config.tool_bonus - config.tool_penalty if len(answered_calls) else 0.0
