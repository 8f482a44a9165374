"""`algorithm.axpo`, parsed once: mapping -> checks -> one frozen dataclass that every stage of `core` reads.

The defaults are the paper's setting (section 4 of arXiv 2605.28774); every other value is an ablation or an extension.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

Uncertainty = Literal["confidence", "entropy", "random"]
Allocation = Literal["exact", "streaming"]
Target = Literal["tool", "no_tool"]
Prefix = Literal["fixed", "scratch"]
AdvantageGroup = Literal["separate", "merged"]

_NAMES: dict[str, tuple[str, ...]] = {
    "uncertainty": get_args(Uncertainty),
    "allocation": get_args(Allocation),
    "target": get_args(Target),
    "prefix": get_args(Prefix),
    "advantage_group": get_args(AdvantageGroup),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AxpoConfig:
    """The algorithm's settings.

    Attributes:
        budget: r, extra continuations per step as a share of the B*N ordinary rollouts; 0 is GRPO.
        num_continuations: K, continuations per prefix.
        uncertainty: what ranks the prefixes of a question; `random` is an ablation.
        allocation: `exact`, one barrier per step, is the paper's order; `streaming` pays for prefixes as groups settle.
        speculate: with `exact`, continue failed rollouts before their group has settled; what the barrier does not
            select is thrown away.
        target: the subgroup that triggers when all of it is wrong; `no_tool` is an ablation.
        prefix: `fixed` continues the source's prefix; `scratch` samples whole rollouts instead (ablation).
        prefix_credit: whether the source's prefix is trained, on the recovery reward; false is an ablation.
        advantage_group: `separate` normalises the K continuations on their own; `merged` makes them K more rollouts of
            the group, trained whole (ablation).
        correct_threshold: a reward at or above it counts as correct.
        trace_dir: where the trace goes; None writes no trace.
        example_trees: of a step with a trace, the resampled questions that the run's loggers show as trees; 0 shows
            none.
        max_failed_share: of a step's B*N rollouts, the share that may be lost, to sessions that raised and to infra
            failures; above it the run stops before the update, which would train on what happened to survive.
        seed: seeds every sampling request, and the order of prefixes under `uncertainty: random`; None draws freely.

    Raises:
        ValueError: values, or combinations of values, that have no meaning or are not built yet; a line for each.
    """

    budget: float = 0.25
    num_continuations: int = 4
    uncertainty: Uncertainty = "confidence"
    allocation: Allocation = "exact"
    speculate: bool = False
    target: Target = "tool"
    prefix: Prefix = "fixed"
    prefix_credit: bool = True
    advantage_group: AdvantageGroup = "separate"
    correct_threshold: float = 1.0
    trace_dir: str | None = None
    example_trees: int = 2
    max_failed_share: float = 0.2
    seed: int | None = None

    def __post_init__(self) -> None:
        problems = [*_bad_values(self), *_bad_combinations(self)]
        if problems:
            raise ValueError("\n".join(problems))

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "AxpoConfig":
        """Parse `algorithm.axpo`; keys left out take the paper's value.

        Raises:
            ValueError: unknown keys, and what the constructor refuses; a line for each.
        """
        valid = [field.name for field in fields(cls)]
        unknown = [str(key) for key in mapping if key not in valid]
        problems = [f"algorithm.axpo: unknown keys {unknown}; valid keys are {valid}"] if unknown else []
        try:
            config = cls(**{str(key): value for key, value in mapping.items() if key in valid})
        except ValueError as error:
            problems.append(str(error))
        if problems:
            raise ValueError("\n".join(problems))
        return config

    def is_correct(self, reward: float) -> bool:
        """Whether an outcome reward counts as correct."""
        return reward >= self.correct_threshold

    @property
    def splits_rollouts(self) -> bool:
        """Whether prefix and continuation are trained apart: the source cut at its prefix, continuations without it.

        Rollouts sampled from scratch share no prefix with the source, and merged ones are trained whole.
        """
        return self.prefix == "fixed" and self.advantage_group == "separate"

    @property
    def credits_prefix(self) -> bool:
        """Whether the prefix of a selected source is trained on the recovery reward (equation 3)."""
        return self.splits_rollouts and self.prefix_credit


def _bad_values(config: AxpoConfig) -> Iterator[str]:
    continuations, seed, threshold = config.num_continuations, config.seed, config.correct_threshold
    share, trees = config.max_failed_share, config.example_trees
    named = [(key, getattr(config, key) in names, f"one of {list(names)}") for key, names in _NAMES.items()]
    checks = [
        *named,
        ("budget", _is_number(config.budget) and config.budget >= 0, "a number >= 0 (0 is GRPO)"),
        ("num_continuations", _is_integer(continuations) and continuations >= 2, "an integer >= 2: one has no peer"),
        ("correct_threshold", _is_number(threshold), "a finite number"),
        ("max_failed_share", _is_number(share) and 0 <= share < 1, "a number >= 0 and below 1"),
        ("prefix_credit", isinstance(config.prefix_credit, bool), "true or false"),
        ("speculate", isinstance(config.speculate, bool), "true or false"),
        ("seed", seed is None or _is_integer(seed), "an integer, or null"),
        ("example_trees", _is_integer(trees) and trees >= 0, "an integer >= 0 (0 shows none)"),
        ("trace_dir", _is_folder(config.trace_dir), "a folder, or null for no trace"),
    ]
    for key, is_good, expected in checks:
        if not is_good:
            yield f"algorithm.axpo.{key}: got {getattr(config, key)!r}, expected {expected}"


def _bad_combinations(config: AxpoConfig) -> Iterator[str]:
    if config.speculate and config.allocation != "exact":
        yield (
            f"algorithm.axpo.speculate: true does not work with allocation: {config.allocation}, which has no "
            "barrier; set algorithm.axpo.speculate=false or algorithm.axpo.allocation=exact"
        )
    if config.target == "no_tool" and (config.prefix != "scratch" or config.uncertainty != "random"):
        yield (
            f"algorithm.axpo.target: no_tool does not work with prefix: {config.prefix}, uncertainty: "
            f"{config.uncertainty}, because a rollout without a tool call has no prefix and no tool-call tokens to "
            "measure; set algorithm.axpo.prefix=scratch algorithm.axpo.uncertainty=random"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_folder(value: object) -> bool:
    return value is None or (isinstance(value, str) and bool(value.strip()))
