"""How uncertain the policy was at a tool call: trajectory -> scoring request -> mean entropy of its tokens."""

import logging
import math
from typing import Any

from verl_axpo.integration.trajectory import Trajectory

logger = logging.getLogger(__name__)

ENTROPY_TOP_K = 20  # tokens of the distribution that vLLM reports by default at most (its `max_logprobs`)


async def mean_entropy(client: Any, trajectory: Trajectory) -> float | None:
    """Mean policy entropy (nats) at the tokens of the first tool call; None without a tool call.

    If the server does not answer, it is the mean surprise of the tokens as they were sampled: an estimate of the same
    entropy without bias, from log-probabilities that are there.
    """
    span, logprobs = trajectory.tool_call_span, trajectory.response_logprobs
    if span is None:
        return None
    try:
        return await _scored_entropy(client, trajectory, span)
    except Exception:
        if logprobs is None:
            raise
        logger.warning("session %d: scoring its tool call failed; estimated", trajectory.session, exc_info=True)
        return -math.fsum(logprobs[slice(*span)]) / (span[1] - span[0])


async def _scored_entropy(client: Any, trajectory: Trajectory, span: tuple[int, int]) -> float:
    """From one scoring request: the server reads the context again and reports the `ENTROPY_TOP_K` likeliest tokens.

    The rest of a distribution counts as one token, so this is a lower bound, tight where the policy is not spread over
    more than that. vLLM computes log-probabilities of the whole context; how many at a time, completion.py sets.
    """
    scored = await client.generate(
        trajectory.request_id,
        prompt_ids=[*trajectory.prompt_ids, *trajectory.response_ids[: span[1]]],
        sampling_params={"max_tokens": 1, "temperature": 1.0, "prompt_logprobs": ENTROPY_TOP_K, "logprobs": False},
        image_data=trajectory.images[: trajectory.prefix_images] if trajectory.images else None,
    )
    # Entry i of the server's list is the distribution of token i + 1
    first = len(trajectory.prompt_ids) + span[0] - 1
    distributions = scored.extra_fields["prompt_logprobs"][first : first + span[1] - span[0]]
    return math.fsum(entropy_of(logprobs) for logprobs in distributions) / len(distributions)


def entropy_of(logprobs: list[float]) -> float:
    """Entropy (nats) of the given log-probabilities, their missing mass taken as one more token."""
    probabilities = [math.exp(logprob) for logprob in logprobs]
    rest = max(0.0, 1.0 - math.fsum(probabilities))
    tail = -rest * math.log(rest) if rest > 0.0 else 0.0
    return tail - math.fsum(p * logprob for p, logprob in zip(probabilities, logprobs, strict=True) if p > 0.0)
