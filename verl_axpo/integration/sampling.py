"""What AXPO asks of the inference server beyond verl's rollouts: where a resample starts, and a tool call's entropy."""

import logging
import math
from typing import Any

from verl_axpo.core.config import AxpoConfig
from verl_axpo.integration.lineage import Session
from verl_axpo.integration.turn_client import Resume

logger = logging.getLogger(__name__)

ENTROPY_TOP_K = 20  # tokens of the distribution that vLLM reports by default at most (its `max_logprobs`)


def continuation_of(source: Session, config: AxpoConfig) -> Resume:
    """Where the resamples of `source` start: its prefix (paper, section 3), or nothing (ablation `prefix: scratch`)."""
    length = source.episode.prefix_len if config.prefix == "fixed" else 0
    assert length is not None, "a candidate for a fixed prefix has a tool call"
    logprobs = source.output.response_logprobs
    assert logprobs is not None, "ranking needed log-probabilities, so they are there"
    return Resume(
        request_id=source.episode.request_id,
        token_ids=tuple(source.output.response_ids[:length]),
        logprobs=tuple(logprobs[:length]),
    )


async def mean_entropy(client: Any, session: Session) -> float | None:
    """Mean policy entropy (nats) at the tokens of the first tool call; None without a tool call.

    If the server does not answer, it is the mean surprise of the tokens as they were sampled: an estimate of the same
    entropy without bias, from log-probabilities that are there.
    """
    span, logprobs = session.episode.tool_call_span, session.output.response_logprobs
    if span is None:
        return None
    try:
        return await _scored_entropy(client, session, span)
    except Exception:
        if logprobs is None:
            raise
        logger.warning("session %d: scoring its tool call failed; estimated", session.session_id, exc_info=True)
        return -math.fsum(logprobs[slice(*span)]) / (span[1] - span[0])


async def _scored_entropy(client: Any, session: Session, span: tuple[int, int]) -> float:
    """From one scoring request: the server reads the context again and reports the `ENTROPY_TOP_K` likeliest tokens.

    The rest of a distribution counts as one token, so this is a lower bound, tight where the policy is not spread over
    more than that. vLLM computes log-probabilities of the whole context; how many at a time, completion.py sets.
    """
    output = session.output
    media = output.multi_modal_data or {}
    scored = await client.generate(
        session.episode.request_id,
        prompt_ids=[*output.prompt_ids, *output.response_ids[: span[1]]],
        sampling_params={"max_tokens": 1, "temperature": 1.0, "prompt_logprobs": ENTROPY_TOP_K, "logprobs": False},
        image_data=media["images"][: session.episode.prefix_images] if media.get("images") else None,
    )
    # Entry i of the server's list is the distribution of token i + 1
    first = len(output.prompt_ids) + span[0] - 1
    distributions = scored.extra_fields["prompt_logprobs"][first : first + span[1] - span[0]]
    return math.fsum(entropy_of(logprobs) for logprobs in distributions) / len(distributions)


def entropy_of(logprobs: list[float]) -> float:
    """Entropy (nats) of the given log-probabilities, their missing mass taken as one more token."""
    probabilities = [math.exp(logprob) for logprob in logprobs]
    rest = max(0.0, 1.0 - math.fsum(probabilities))
    tail = -rest * math.log(rest) if rest > 0.0 else 0.0
    return tail - math.fsum(p * logprob for p, logprob in zip(probabilities, logprobs, strict=True) if p > 0.0)
