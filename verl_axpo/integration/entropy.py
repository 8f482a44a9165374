"""How uncertain the policy was at a tool call: trajectory -> scoring request -> mean entropy of its tokens."""

import asyncio
import logging
import math
from functools import partial
from typing import Any

from verl.workers.rollout.llm_server import LLMServerClient

from verl_axpo.integration.trajectory import Trajectory

logger = logging.getLogger(__name__)

ABORTED = ("aborted", "abort")  # stop reasons of a request that a weight update ended
RETRY_S = 1.0  # as verl's client waits before it goes on with an aborted request
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
    scored = await _answered(
        client,
        trajectory.request_id,
        prompt_ids=[*trajectory.prompt_ids, *trajectory.response_ids[: span[1]]],
        sampling_params={"max_tokens": 1, "temperature": 1.0, "prompt_logprobs": ENTROPY_TOP_K, "logprobs": False},
        image_data=trajectory.images[: trajectory.prefix_images] if trajectory.images else None,
    )
    # Entry i of the server's list is the distribution of token i + 1
    first = len(trajectory.prompt_ids) + span[0] - 1
    distributions = scored.extra_fields["prompt_logprobs"][first : first + span[1] - span[0]]
    return math.fsum(entropy_of(logprobs) for logprobs in distributions) / len(distributions)


async def _answered(client: Any, *args: Any, **kwargs: Any) -> Any:
    """The answer to a request, asked again as a whole for as long as weight updates abort it.

    The client of the asynchronous trainers asks for the rest of an aborted answer, and drops the prompt's log-probs.
    """
    ask = partial(LLMServerClient.generate, client) if isinstance(client, LLMServerClient) else client.generate
    while True:
        answer = await ask(*args, **kwargs)
        if answer.stop_reason not in ABORTED:
            return answer
        await asyncio.sleep(RETRY_S)


def entropy_of(logprobs: list[float]) -> float:
    """Entropy (nats) of the given log-probabilities, their missing mass taken as one more token."""
    probabilities = [math.exp(logprob) for logprob in logprobs]
    rest = max(0.0, 1.0 - math.fsum(probabilities))
    tail = -rest * math.log(rest) if rest > 0.0 else 0.0
    return tail - math.fsum(p * logprob for p, logprob in zip(probabilities, logprobs, strict=True) if p > 0.0)
