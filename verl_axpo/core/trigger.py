"""Which questions are resampled: group of N -> subgroup (tool-using by default) -> is all of it wrong?

This is the Thinking-Acting Gap: a tool-using subgroup without one correct rollout gives its tool calls no positive
advantage, whatever the no-tool rollouts do.
"""

from collections.abc import Iterable

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Rollout, usable


def subgroup(group: Iterable[Rollout], config: AxpoConfig) -> list[Rollout]:
    """The usable rollouts that the trigger looks at: the tool-using ones, or (ablation) the others."""
    wanted = config.target == "tool"
    return [rollout for rollout in usable(group) if rollout.uses_tool == wanted]


def is_triggered(group: Iterable[Rollout], config: AxpoConfig) -> bool:
    """Whether the subgroup is non-empty and entirely wrong; never with a budget of zero, which is GRPO."""
    rollouts = subgroup(group, config)
    return config.budget > 0 and bool(rollouts) and not any(config.is_correct(rollout.reward) for rollout in rollouts)
