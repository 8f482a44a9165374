"""The inference server as a trajectory sees it: requests get a seed and a limit, the first may start from a prefix.

    ToolAgentLoop -> TurnClient.generate -> verl's LLMServerClient -> vLLM

The client keeps what the loop throws away: stop by length, cache hits, the request id.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from verl.workers.rollout.replica import TokenOutput


class GenerateClient(Protocol):
    """verl's `LLMServerClient`, as far as it is called."""

    async def generate(self, request_id: str, *, prompt_ids: list[int], **kwargs: Any) -> "TokenOutput": ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """Where a continuation starts: its source's prefix (P tokens), on its source's server; P = 0: from scratch."""

    request_id: str
    token_ids: tuple[int, ...]  # (P,)
    logprobs: tuple[float, ...]  # (P,)
    oldest_weights: int | None = None  # that its source was sampled from


class TurnClient:
    """A client for one trajectory.

    Args:
        client: verl's client; shared by all trajectories of a worker.
        response_length: limit of the whole response, tool responses included, in tokens.
        seed: turn -> the request's seed, or None to let the engine draw freely.
        prefix: the beginning of the first response. It is sent after the prompt and returned in front of what was
            generated, so that the loop sees an ordinary turn; the source's request id finds its server, and its prefix
            cache.
    """

    def __init__(
        self,
        client: GenerateClient,
        *,
        response_length: int,
        seed: Callable[[int], int | None],
        prefix: Prefix | None = None,
    ) -> None:
        self._client, self._response_length, self._seed, self._prefix = client, response_length, seed, prefix
        self.request_id: str = prefix.request_id if prefix else ""
        self.turn_lengths: list[int] = []  # tokens of each assistant turn, the prefix included
        self.given = len(prefix.token_ids) if prefix else 0  # tokens of the first turn that are not generated
        self.stopped_by_length = False
        self.prompt_len = 0  # tokens; `prompt_tokens` counts the prefix, too
        self.prompt_tokens = 0
        self.cached_tokens: int | None = None
        self.weight_versions: tuple[int, int] | None = None  # oldest and newest that generated a turn

    async def generate(
        self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any], **kwargs: Any
    ) -> "TokenOutput":
        """One assistant turn; see `LLMServerClient.generate`."""
        first = not self.turn_lengths
        if first:
            self.prompt_len = len(prompt_ids)
            self.request_id = self.request_id or request_id
        prefix = self._prefix if first else None
        context = [*prompt_ids, *prefix.token_ids] if prefix else prompt_ids
        limit = max(1, self._response_length - (len(context) - self.prompt_len))
        output = await self._client.generate(
            self.request_id,
            prompt_ids=context,
            sampling_params=self._params(sampling_params, limit),
            **kwargs,
        )
        if first:
            self.prompt_tokens = len(context)
            self.cached_tokens = output.extra_fields.get("num_cached_tokens")
        self.stopped_by_length = len(output.token_ids) >= limit
        self._note_weights(output)
        output = _after(prefix, output) if prefix else output
        self.turn_lengths.append(len(output.token_ids))
        return output

    def _note_weights(self, output: "TokenOutput") -> None:
        oldest, newest = (output.extra_fields.get(f"{end}_global_steps") for end in ("min", "max"))
        if oldest is None or newest is None:
            return
        before = self.weight_versions or (oldest, newest)
        self.weight_versions = (min(before[0], oldest), max(before[1], newest))

    def _params(self, sampling_params: dict[str, Any], limit: int) -> dict[str, Any]:
        seed = self._seed(len(self.turn_lengths))
        return {**sampling_params, "max_tokens": limit, **({} if seed is None else {"seed": seed})}


def _after(prefix: Prefix, output: "TokenOutput") -> "TokenOutput":
    """The turn with its prefix in front; its oldest weights are the prefix's, which are its source's."""
    logprobs = None if output.log_probs is None else [*prefix.logprobs, *output.log_probs]
    ids, extra = [*prefix.token_ids, *output.token_ids], output.extra_fields
    oldest = extra.get("min_global_steps")
    if prefix.oldest_weights is not None and oldest is not None:
        extra = {**extra, "min_global_steps": min(prefix.oldest_weights, oldest)}
    return output.model_copy(update={"token_ids": ids, "log_probs": logprobs, "extra_fields": extra})
