"""The reward of a run that validates on benchmarks: their scorers for their rows, the outcome reward for all others.

    data_source "benchmark/NAME" -> question_of() -> registry.score() -> Score -> the outcome reward's keys
    any other                    -> verl_axpo.rewards.outcome.compute_score()

`reward.custom_reward_function.path=pkg://verl_axpo.eval.reward`, `name=compute_score`; `reward_kwargs` are those of the
outcome reward, and `registry`, the module of one's own benchmarks (`verl-axpo eval export --registry`). A benchmark's
row reads `registry`, `judge` and `on_infra_failure`; what a tool call earns in training changes no score here.
"""

import logging
from collections.abc import Mapping
from typing import Any

from verl_axpo.errors import InfraFailure
from verl_axpo.eval.export import PREFIX, question_of
from verl_axpo.eval.registry import OURS, Registry, registry_named
from verl_axpo.eval.types import Question, Score
from verl_axpo.rewards import graders, outcome
from verl_axpo.rewards.answer import STARTS_IN_THINK, final_answer
from verl_axpo.rewards.config import RewardConfig

logger = logging.getLogger(__name__)


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
    registry: str = OURS,
    **reward_kwargs: Any,
) -> Mapping[str, float | None]:
    """Score one response; arguments and keys are those of `verl_axpo.rewards.outcome.compute_score`.

    Returns:
        for a benchmark's row `acc` is None where nobody could say (`infra_failure` is 1.0): verl counts that as 0 in
        `acc` and leaves it out of `acc_success_only`. `score` is 0.0 then, for verl needs a number.

    Raises:
        ValueError: the configuration or the row is wrong.
        InfraFailure: nobody could say and `on_infra_failure` is `raise`.
    """
    if not data_source.startswith(PREFIX):
        return await outcome.compute_score(data_source, solution_str, ground_truth, extra_info, **reward_kwargs)
    config = RewardConfig.from_mapping(reward_kwargs)
    question = question_of(data_source, ground_truth, extra_info or {})
    answer = final_answer(solution_str, starts_in_think=bool((extra_info or {}).get(STARTS_IN_THINK)))
    score = await _score(registry_named(registry), question, answer, config)
    if score.correct is None:
        if config.on_infra_failure == "raise":
            raise InfraFailure(f"{data_source}, question {question.uid}: {score.reason}")
        logger.warning("%s, question %s: %s", data_source, question.uid, score.reason)
    return _result(score, answer)


async def _score(registry: Registry, question: Question, answer: str | None, config: RewardConfig) -> Score:
    """As the stand-alone runner scores; a process has one judge for these rows and the outcome reward's."""
    judge = graders.judge_of(config.judge) if config.judge is not None else None
    try:
        return await registry.score(question, answer, judge)
    except Exception as failure:  # one answer must not stop a validation, whatever its scorer raises
        return Score(correct=None, by="nobody", reason=f"no verdict: {failure!r:.500}")


def _result(score: Score, answer: str | None) -> dict[str, float | None]:
    return {
        "score": float(score.correct is True),
        "acc": None if score.correct is None else float(score.correct),
        "answered": float(answer is not None),
        "undecided": 0.0,
        "infra_failure": float(score.correct is None),
    }
