"""Which questions are resampled: group of N -> subgroup (tool-using by default) -> is all of it wrong?

The Thinking-Acting Gap in one condition: a tool-using subgroup without one correct rollout gives its tool calls no
positive advantage, whatever the no-tool rollouts do.
"""

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Group, Rollout, usable


def subgroup(group: Group, config: AxpoConfig) -> tuple[Rollout, ...]:
    """The usable rollouts that the trigger looks at: the tool-using ones, or (ablation) the others."""
    wanted = config.target == "tool"
    return tuple(rollout for rollout in usable(group.rollouts) if rollout.uses_tool == wanted)


def is_triggered(group: Group, config: AxpoConfig) -> bool:
    """Whether the subgroup is non-empty and entirely wrong; never with a budget of zero, which is GRPO."""
    rollouts = subgroup(group, config)
    return config.budget > 0 and bool(rollouts) and not any(config.is_correct(one.reward) for one in rollouts)
