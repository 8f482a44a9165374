"""How a rollout is sampled, and where it ends; the defaults are the paper's evaluation (section 4)."""

from dataclasses import dataclass
from typing import Literal, get_args

TruncateSide = Literal["left", "middle", "right"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the server samples; the defaults are the paper's evaluation (section 4). None leaves a field to the server.

    `seed` is the run's: each request gets its own, made of it (`request_seed`).
    """

    temperature: float | None = 0.7
    top_p: float | None = 0.8
    top_k: int | None = 20
    presence_penalty: float | None = 1.5
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("temperature", 0.0), ("top_p", 0.0), ("presence_penalty", -2.0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}: got {value}, expected at least {least:g}, or none to leave it to the server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Where a trajectory ends. Turns and tokens are the paper's evaluation, `tool_response_chars` our training config's
    (axpo_trainer.yaml), the rest verl's `multi_turn` defaults.

    Attributes:
        max_turns: assistant turns (`max_assistant_turns`).
        response_tokens: everything after the prompt, tool responses included (`response_length`).
        parallel_calls: calls of one turn that are carried out; the rest is dropped (`max_parallel_calls`).
        tool_response_chars: longer texts of a tool are cut (`max_tool_response_length`).
        truncate_side: where they are cut (`tool_response_truncate_side`).
    """

    max_turns: int = 5
    response_tokens: int = 32_768
    parallel_calls: int = 1
    tool_response_chars: int = 8192
    truncate_side: TruncateSide = "middle"

    def __post_init__(self) -> None:
        for name in ("max_turns", "response_tokens", "parallel_calls", "tool_response_chars"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected at least 1")
        if self.truncate_side not in get_args(TruncateSide):
            raise ValueError(f"truncate_side: got {self.truncate_side!r}; choose from {list(get_args(TruncateSide))}")
