"""From a GRPO config to an AXPO config: fill what is silent, keep what the user set, refuse what contradicts.

config with algorithm.adv_estimator=axpo -> `complete` -> the same config, with one log line for each key that was set
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from verl_axpo.core.config import AxpoConfig

logger = logging.getLogger(__name__)

ESTIMATOR = "axpo"
_ROLLOUT = "actor_rollout_ref.rollout"
DATASET = "pkg://verl_axpo.integration.dataset"


@dataclass(frozen=True, slots=True)
class Needed:
    """A key, the value that AXPO needs, and verl's values that it may replace; where it `yields`, any other stays."""

    key: str
    value: Any
    replaces: tuple[Any, ...]
    reason: str
    yields: bool = False


NEEDED = (
    Needed("trainer.v1.trainer_mode", "axpo_sync", ("sync",), "AXPO's trainer; its budget is shared by a whole step"),
    Needed(
        f"{_ROLLOUT}.agent.agent_loop_manager_class",
        "verl_axpo.integration.rollout.AxpoAgentLoopManager",
        (None,),
        "the rollout hook that resamples before a group is published",
    ),
    Needed(
        f"{_ROLLOUT}.agent.default_agent_loop",
        "axpo_tool_agent",
        ("single_turn_agent", "tool_agent"),
        "verl's tool loop, which can also resume from a prefix",
    ),
    Needed(f"{_ROLLOUT}.multi_turn.format", "axpo", ("hermes",), "a parser that ignores a tool call inside <think>"),
    Needed(f"{_ROLLOUT}.multi_turn.enable", True, (False,), "a tool call is a turn"),
    Needed(f"{_ROLLOUT}.calculate_log_probs", True, (False,), "prefixes are ranked by the tool call's probability"),
    Needed("data.custom_cls.path", DATASET, (None,), "the model sees the pictures that the tools see", yields=True),
    Needed("data.custom_cls.name", "AxpoDataset", (None,), "the class in that file", yields=True),
)


def complete(config: DictConfig) -> list[str]:
    """Complete `config` in place if it asks for AXPO.

    Returns:
        The lines that were logged, one for each key set.

    Raises:
        ValueError: the config contradicts AXPO; the message has every line to change.
    """
    if OmegaConf.select(config, "algorithm.adv_estimator") != ESTIMATOR:
        return []
    AxpoConfig.from_mapping(OmegaConf.select(config, "algorithm.axpo") or {})
    explicit = _command_line_keys()
    problems = [*_refused(config), *(problem for needed in NEEDED if (problem := _conflict(config, needed, explicit)))]
    if problems:
        raise ValueError("algorithm.adv_estimator=axpo cannot run with this config:\n" + "\n".join(problems))
    lines = [line for needed in NEEDED if (line := _fill(config, needed))]
    for line in lines:
        logger.warning(line)  # verl runs at WARNING, and a key that was set for the user must be seen
    return lines


def _conflict(config: DictConfig, needed: Needed, explicit: Collection[str]) -> str | None:
    got = OmegaConf.select(config, needed.key)
    replaceable = got in needed.replaces and needed.key not in explicit
    if got == needed.value or replaceable or needed.yields:
        return None
    return f"- {needed.key}: got {got!r}, expected {needed.value!r} ({needed.reason}); remove it or set it so"


def _fill(config: DictConfig, needed: Needed) -> str | None:
    got = OmegaConf.select(config, needed.key)
    if got == needed.value or (needed.yields and got not in needed.replaces):
        return None
    with open_dict(config):
        OmegaConf.update(config, needed.key, needed.value)
    return f"axpo: set {needed.key}={needed.value} (was {got}): {needed.reason}"


def _refused(config: DictConfig) -> Sequence[str]:
    """What AXPO cannot be combined with: (condition, line to change)."""

    def get(key: str) -> Any:
        return OmegaConf.select(config, key)

    rules = (
        (
            not get("trainer.use_v1"),
            "trainer.use_v1=False: AXPO is built on verl's V1 trainer; set trainer.use_v1=True",
        ),
        ((get(f"{_ROLLOUT}.n") or 1) < 2, f"{_ROLLOUT}.n=1: a group of one has no peers; set {_ROLLOUT}.n=8"),
        (bool(get("critic.enable")), "critic.enable=True: AXPO's advantages need no critic; set critic.enable=False"),
        (
            bool(get("algorithm.filter_groups.enable")),
            "algorithm.filter_groups.enable=True: it drops the all-wrong groups that AXPO lives on; set it to False",
        ),
        (
            bool(get("algorithm.use_kl_in_reward")),
            "algorithm.use_kl_in_reward=True: the recovery reward is 0 or 1, without KL; set it to False and use "
            "actor_rollout_ref.actor.use_kl_loss=True",
        ),
        (
            bool(get("trainer.v1.sampler.sync_refill_failed_groups")),
            "trainer.v1.sampler.sync_refill_failed_groups=True: a step's budget is shared by the questions that it "
            "began with; set it to False",
        ),
        (
            bool(get("algorithm.rollout_correction.bypass_mode")) and bool(get("algorithm.axpo.trace_dir")),
            "algorithm.rollout_correction.bypass_mode=True: the trainer computes no entropies, which the trace holds; "
            "set it to False, or algorithm.axpo.trace_dir=null",
        ),
        (
            bool(get("reward.reward_model.enable")) and not get("reward.reward_model.enable_resource_pool"),
            "reward.reward_model.enable=True: a colocated reward model scores after the rollouts, too late for AXPO's "
            "trigger; set reward.reward_model.enable_resource_pool=True",
        ),
    )
    return [f"- {line}" for broken, line in rules if broken]


def _command_line_keys() -> set[str]:
    """The keys that the user wrote on verl's command line, even where they repeat a default."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return set()
    return {override.split("=", 1)[0].lstrip("+~") for override in HydraConfig.get().overrides.task}
