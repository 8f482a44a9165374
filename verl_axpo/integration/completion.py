"""From a GRPO config to an AXPO config: set what is missing, keep what the user set, refuse what contradicts.

config with algorithm.adv_estimator=axpo -> `complete` -> the same config, with one log line for each key that was set
"""

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from verl_axpo.core.config import AxpoConfig
from verl_axpo.findings import Finding, problem
from verl_axpo.integration import modes
from verl_axpo.integration.conflicts import conflicts
from verl_axpo.integration.startup import FORMAT, OURS, chat_format, named_syntax, startup_problems
from verl_axpo.integration.training_rows import DATASET
from verl_axpo.tools.syntax import HERMES, syntaxes

logger = logging.getLogger(__name__)

ESTIMATOR = "axpo"
_ROLLOUT = "actor_rollout_ref.rollout"
SCORED_TOKENS = 1024  # 2 GB of logits at 150,000 words, on top of vLLM's share; its model runner V2 takes it as well


@dataclass(frozen=True, slots=True)
class Needed:
    """A key, the value that AXPO needs, and the values that it may replace.

    replaces: verl's defaults; a default that the user wrote out stays the user's. supersedes: values that AXPO's value
    replaces wherever they were written, because it does all that they do. yields: any other value stays.
    """

    key: str
    value: Any
    replaces: tuple[Any, ...]
    reason: str
    yields: bool = False
    supersedes: tuple[Any, ...] = ()


NEEDED = (
    Needed(
        f"{_ROLLOUT}.agent.agent_loop_manager_class",
        "verl_axpo.integration.rollout.AxpoAgentLoopManager",
        (None,),
        "the rollout hook that resamples before a group is published",
    ),
    Needed(
        f"{_ROLLOUT}.agent.default_agent_loop",
        "axpo_tool_agent",
        ("single_turn_agent",),
        "verl's tool loop, which can also resume from a prefix",
        supersedes=("tool_agent",),
    ),
    Needed(
        FORMAT,
        "axpo",
        (HERMES.name,),
        f"it reads each of {sorted(syntaxes())}, found from the template, and ignores a tool call inside thinking",
        supersedes=tuple(syntaxes()),
    ),
    Needed(f"{_ROLLOUT}.multi_turn.enable", True, (False,), "a tool call takes more than one turn"),
    Needed(f"{_ROLLOUT}.calculate_log_probs", True, (False,), "prefixes are ranked by the tool call's probability"),
    Needed("data.custom_cls.path", DATASET, (None,), "the model sees the pictures that the tools see", yields=True),
    Needed("data.custom_cls.name", "AxpoDataset", (None,), "the class in that file", yields=True),
)
STREAMING = Needed(
    "algorithm.axpo.allocation",
    "streaming",
    (None, "exact"),
    "the asynchronous trainers have no barrier for allocation=exact",
)


def complete(config: DictConfig) -> list[str]:
    """Complete `config` in place if it asks for AXPO.

    Returns:
        The lines that were logged, one for each key set.

    Raises:
        ValueError: the config contradicts AXPO; the message has every line to change.
    """
    if not asks_for_axpo(config):
        return []
    if found := list(refusals(config)):
        lines = [f"- {line}" for finding in found for line in str(finding).splitlines()]
        raise ValueError("\n".join(["algorithm.adv_estimator=axpo cannot run with this config:", *lines]))
    return fill(config)


def asks_for_axpo(config: DictConfig) -> bool:
    """Whether the config names our estimator."""
    return bool(OmegaConf.select(config, "algorithm.adv_estimator") == ESTIMATOR)


def refusals(config: DictConfig, made: Sequence[Path] = (), columns: Sequence[str] = ()) -> Iterator[Finding]:
    """Everything that AXPO cannot run with: its own settings, verl's, and what the run will read.

    Args: as of `startup_problems`.
    """
    axpo, bad = _parsed(OmegaConf.select(config, "algorithm.axpo"))
    yield from bad
    yield from conflicts(config, axpo)
    explicit = _command_line_keys()
    all_needed = needed_by(config, explicit)
    yield from (finding for needed in all_needed if (finding := _conflict(config, needed, explicit)))
    yield from startup_problems(config, made, columns, named=named_syntax(config, explicit))


def fill(config: DictConfig) -> list[str]:
    """Set what AXPO needs in a config that `refusals` has nothing against; returns the lines that were logged."""
    axpo = AxpoConfig.from_mapping(OmegaConf.select(config, "algorithm.axpo") or {})
    if not axpo.budget:
        logger.warning("axpo: algorithm.axpo.budget=0: nothing is resampled, so this run is GRPO")
    explicit = _command_line_keys()
    found = chat_format(config, named=named_syntax(config, explicit))
    all_needed = (*needed_by(config, explicit), *_needed_for(config, axpo))
    lines = [line for needed in all_needed if (line := _fill(config, needed))]
    # verl runs at WARNING; a key that was set for the user must be seen, and so must what was found
    for line in [*lines, *([f"axpo: the model's template: {found}"] if found else [])]:
        logger.warning(line)
    return lines


def _parsed(settings: Any) -> tuple[AxpoConfig | None, list[Finding]]:
    """The settings, and what is wrong with them."""
    if settings is not None and not isinstance(settings, DictConfig):
        found = f"got {settings!r}, expected keys, as in algorithm.axpo.budget=0.25"
        return None, [problem("algorithm.axpo", found)]
    try:
        return AxpoConfig.from_mapping(settings or {}), []
    except ValueError as error:
        lines = (line.partition(": ") for line in str(error).splitlines())
        return None, [problem(key, found) for key, _, found in lines]


def needed_by(config: DictConfig, explicit: Collection[str] = ()) -> tuple[Needed, ...]:
    """What a run with AXPO needs, its trainer first, its parser with the call syntax that the user named."""
    mode = modes.host(OmegaConf.select(config, modes.KEY))
    trainer = modes.ours(mode if mode in modes.MODES else modes.SYNC)
    reason = f"AXPO's trainer; {', '.join(map(modes.ours, modes.MODES))} are for verl's {', '.join(modes.MODES)}"
    named = named_syntax(config, explicit)
    parser = f"{OURS}{named}" if named else "axpo"
    rest = [replace(needed, value=parser) if needed.key == FORMAT else needed for needed in NEEDED]
    needed = (Needed(modes.KEY, trainer, (), reason, supersedes=modes.MODES), *rest)
    return (*needed, STREAMING) if modes.is_asynchronous(config) else needed


def _needed_for(config: DictConfig, axpo: AxpoConfig) -> Sequence[Needed]:
    """What only some settings of AXPO need; a value that the user set stays."""
    key = f"{_ROLLOUT}.engine_kwargs.vllm.long_prefill_token_threshold"
    if axpo.uncertainty != "entropy" or OmegaConf.select(config, key) is not None:
        return ()
    return (Needed(key, SCORED_TOKENS, (), "the most tokens whose logits a scoring request holds at a time"),)


def _conflict(config: DictConfig, needed: Needed, explicit: Collection[str]) -> Finding | None:
    got = OmegaConf.select(config, needed.key)
    replaceable = got in needed.replaces and needed.key not in explicit
    if got == needed.value or got in needed.supersedes or replaceable or needed.yields:
        return None
    found = f"got {got!r}, expected {needed.value!r} ({needed.reason})"
    return problem(needed.key, found, f"remove it, or set it to {needed.value}")


def _fill(config: DictConfig, needed: Needed) -> str | None:
    got = OmegaConf.select(config, needed.key)
    if got == needed.value or (needed.yields and got not in needed.replaces):
        return None
    with open_dict(config):
        OmegaConf.update(config, needed.key, needed.value)
    return f"axpo: set {needed.key}={needed.value} (was {got}): {needed.reason}"


def _command_line_keys() -> set[str]:
    """The keys that the user wrote on verl's command line, even where they repeat a default."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return set()
    return {override.split("=", 1)[0].lstrip("+~") for override in HydraConfig.get().overrides.task}
