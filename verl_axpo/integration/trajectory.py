"""One trajectory in the worker, from the agent loop to its row: what the loop saw, and what of it is trained.

agent loop -> Trajectory -> scored -> (core.explore) -> `trained_part` -> verl's row + BatchRow (batch_row.py)
                  |
                  +-> `prefix_of` -> Prefix -> the K continuations start there
"""

from collections.abc import Mapping
from contextvars import Context
from typing import Any

from pydantic import Field, InstanceOf
from verl.experimental.agent_loop import AgentLoopOutput

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Rollout, Status
from verl_axpo.integration.turn_client import Prefix
from verl_axpo.trace.records import ToolCall


def _ours(default: Any = ...) -> Any:
    """A field that stays out of verl's batch."""
    return Field(default, exclude=True)


class Trajectory(AgentLoopOutput):
    """verl's output of an agent loop, and what the loop saw of the trajectory. Lengths and positions in tokens.

    `sample` are the fields of verl's sample, its `uid` and `session_id` included.
    `prefix_len` counts the response up to and including the first opening tag; `tool_call_span` is `[start, end)` from
    there through the closing tag; both None without a tool call. `prefix_images` are the images in the context there.
    `given` counts the response's tokens that were not generated for it: the prefix of a continuation.
    `prompt_tokens` and `cached_tokens` are those of the first request, the cache count None if the engine gave none.
    `turn_lengths` are the tokens of each assistant turn as the engine returned them, the prefix included.
    `weight_versions` are the oldest and the newest weights that generated its turns, None if the engine told none.
    `entropy` is measured where the ranking needs it.
    `starts_in_think`: the prompt has opened the thinking of the first turn.
    `spans` is the context that its turns ran in; it holds the span of `rollout.trace` that they are under.
    """

    sample: Mapping[str, Any] = _ours()
    request_id: str = _ours()
    status: Status = _ours()
    prefix_len: int | None = _ours()
    tool_call_span: tuple[int, int] | None = _ours()
    prefix_images: int = _ours()
    confidence: float | None = _ours()
    tool_calls: tuple[ToolCall, ...] = _ours()
    given: int = _ours()
    prompt_tokens: int = _ours()
    cached_tokens: int | None = _ours()
    turn_lengths: tuple[int, ...] = _ours()
    weight_versions: tuple[int, int] | None = _ours(None)
    started: float = _ours()  # seconds
    finished: float = _ours()  # seconds
    entropy: float | None = _ours(None)
    starts_in_think: bool = _ours(False)
    spans: InstanceOf[Context] | None = _ours(None)

    @classmethod
    def of(cls, output: AgentLoopOutput, seen: Mapping[str, Any]) -> "Trajectory":
        """verl's output, not copied or checked again, with the fields above; verl's batch gets what verl had set."""
        values = {name: getattr(output, name) for name in AgentLoopOutput.model_fields}
        return cls.model_construct(_fields_set=output.model_fields_set | set(seen), **values, **seen)

    @property
    def uid(self) -> str:
        """The question."""
        return str(self.sample["uid"])

    @property
    def session(self) -> int:
        """Which sample of the question it is; N and above are continuations."""
        return int(self.sample["session_id"])

    @property
    def images(self) -> list[Any]:
        """Those of the question, then those that tools returned."""
        return (self.multi_modal_data or {}).get("images") or []

    def as_rollout(self, source: int | None = None) -> Rollout:
        """What AXPO decides on; `source` is the session whose prefix this one continues."""
        return Rollout(
            uid=self.uid,
            session=self.session,
            reward=float(self.reward_score or 0.0),
            uses_tool=self.prefix_len is not None,
            status=self.status,
            confidence=self.confidence,
            entropy=self.entropy,
            source=source,
        )


def prefix_of(source: Trajectory, config: AxpoConfig) -> Prefix:
    """Where the continuations of `source` start: its prefix (paper, section 3), or nothing (ablation `scratch`)."""
    length = source.prefix_len if config.prefix == "fixed" else 0
    assert length is not None, "a candidate for a fixed prefix has a tool call"
    logprobs = source.response_logprobs
    assert logprobs is not None, "ranking needed log-probabilities, so they are there"
    return Prefix(
        request_id=source.request_id,
        token_ids=tuple(source.response_ids[:length]),
        logprobs=tuple(logprobs[:length]),
        oldest_weights=source.weight_versions[0] if source.weight_versions and length else None,
    )


def trained_part(trajectory: Trajectory, config: AxpoConfig, *, selected: bool, continues: bool) -> Trajectory:
    """What is trained of the trajectory: cut, masked or whole.

    A selected source is cut at its prefix: all after it is masked and attention is causal, so nothing is lost, and its
    tokens and tool images are saved; without prefix credit it trains on nothing. A continuation trains on its own
    tokens only. Rollouts that are not split (`AxpoConfig.splits_rollouts`) are trained whole. An infra failure trains
    on no token.
    """
    if trajectory.status is Status.INFRA_FAILURE:
        return _masked(trajectory, len(trajectory.response_mask))
    if not config.splits_rollouts:
        return trajectory
    if continues:
        return _masked(trajectory, trajectory.given)
    if selected:
        assert trajectory.prefix_len is not None, "a selected source has a tool call"
        prefix = _cut(trajectory, trajectory.prefix_len)
        return prefix if config.credits_prefix else _masked(prefix, trajectory.prefix_len)
    return trajectory


def _masked(trajectory: Trajectory, length: int) -> Trajectory:
    return trajectory.model_copy(update={"response_mask": [0] * length + list(trajectory.response_mask[length:])})


def _cut(trajectory: Trajectory, length: int) -> Trajectory:
    media = {**(trajectory.multi_modal_data or {}), "images": trajectory.images[: trajectory.prefix_images]}
    logprobs, routes = trajectory.response_logprobs, trajectory.routed_experts
    update = {
        "response_ids": trajectory.response_ids[:length],
        "response_mask": trajectory.response_mask[:length],
        "response_logprobs": logprobs[:length] if logprobs is not None else None,
        "multi_modal_data": {kind: items for kind, items in media.items() if items},
        "routed_experts": routes[: len(trajectory.prompt_ids) + length] if routes is not None else None,
    }
    return trajectory.model_copy(update=update)
