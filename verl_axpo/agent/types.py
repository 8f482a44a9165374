"""What flows through `agent`: settings -> turns -> a Trajectory.

    Sampling, Limits -> run_trajectory() -> Trajectory(status, turns)

Texts are complete: where the generation prompt already holds `<think>`, it stands in front of the turn's text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from PIL import Image

from verl_axpo.core.types import Status
from verl_axpo.trace.records import ToolCall

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
    """Where a trajectory ends; turns and tokens are the paper's evaluation, `tool_response_chars` our training config's
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What one call returned to the policy."""

    text: str
    images: tuple[Image.Image, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One assistant turn and what its calls returned; `calls` and `responses` have the same length.

    `unanswered` calls were written and not carried out: the turn was the last one that the limits allow.
    """

    text: str
    calls: tuple[ToolCall, ...] = ()
    responses: tuple[Response, ...] = ()
    unanswered: int = 0
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    seconds: float  # of the request


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """One trajectory, whole or as far as it came.

    Attributes:
        status: as in training; `infra_failure` has its reason in `error`, and so has a `truncated` one whose next
            request the server refused as too long.
        over_limit: the last turn reaches beyond `response_tokens`, so that training would not have seen its end.
        token_exact: whether every request began with exactly the tokens of the turns before it; None if unknown
            (a single turn, or a server that does not return token ids).
    """

    status: Status
    turns: tuple[Turn, ...]
    error: str | None = None
    over_limit: bool = False
    token_exact: bool | None = None
    started: float  # seconds since the epoch
    finished: float

    @property
    def uses_tool(self) -> bool:
        """Whether the policy emitted a tool call, well formed or not."""
        return any(turn.calls or turn.unanswered for turn in self.turns)

    @property
    def last_text(self) -> str | None:
        """The turn that a final answer is read from; None if there is none, or its end lies beyond the limit."""
        return self.turns[-1].text if self.turns and not self.over_limit else None

    @property
    def response_tokens(self) -> int:
        """Everything after the prompt: generated tokens and tool responses."""
        return used_tokens(self.turns)


def used_tokens(turns: Sequence[Turn]) -> int:
    """Tokens from the end of the first prompt to the end of the last turn."""
    if not turns:
        return 0
    return turns[-1].prompt_tokens - turns[0].prompt_tokens + turns[-1].completion_tokens
