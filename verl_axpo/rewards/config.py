"""`reward.custom_reward_function.reward_kwargs`: mapping -> checks -> one frozen dataclass."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from verl_axpo.rewards.judge_config import JudgeConfig

OnInfraFailure = Literal["mark", "raise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardConfig:
    """How answers are graded and what a grade earns.

    Attributes:
        answer_types: further `data_source: answer_type` entries; they win over the built-in table.
        judge: the server behind `judge` answers; None while no row asks for one.
        on_infra_failure: what a reward that could not be computed does. `mark` returns `infra_failure: 1.0`, which
            AXPO's rollouts read; `raise` fails the question, which is what a run without AXPO's hook needs.
        tool_bonus: added to the reward of a rollout that used a tool, right or wrong (0 is off).
        tool_penalty: subtracted from it (likewise).

    Raises:
        ValueError: a value, or a combination of values, without meaning.
    """

    answer_types: Mapping[str, str] = field(default_factory=dict)
    judge: JudgeConfig | None = None
    on_infra_failure: OnInfraFailure = "mark"
    tool_bonus: float = 0.0
    tool_penalty: float = 0.0

    def __post_init__(self) -> None:
        names = get_args(OnInfraFailure)
        _require(self.on_infra_failure in names, "on_infra_failure", self.on_infra_failure, f"one of {list(names)}")
        for key in ("tool_bonus", "tool_penalty"):
            _require(getattr(self, key) >= 0, key, getattr(self, key), "a number >= 0 (0 is off)")
        both = bool(self.tool_bonus and self.tool_penalty)
        _require(not both, "tool_bonus", self.tool_bonus, f"0 next to tool_penalty={self.tool_penalty}: choose one")

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "RewardConfig":
        """Parse `reward_kwargs`.

        Raises:
            ValueError: an unknown key, or what the constructor refuses.
        """
        valid = [option.name for option in fields(cls)]
        unknown = sorted(str(key) for key in mapping if key not in valid)
        if unknown:
            raise ValueError(f"reward_kwargs: unknown keys {unknown}; valid keys are {valid}")
        values = {str(key): value for key, value in mapping.items()}
        if values.get("judge") is not None:
            values["judge"] = JudgeConfig.from_mapping(values["judge"])
        return cls(**values)

    @property
    def shapes_tool_use(self) -> bool:
        """Whether a tool call changes the reward."""
        return bool(self.tool_bonus or self.tool_penalty)


def _require(condition: bool, key: str, got: object, expected: str) -> None:
    if not condition:
        raise ValueError(f"reward_kwargs.{key}: got {got!r}, expected {expected}")
