"""What the trace shows of a row: published output and unmasked session -> Transcript, images stored once."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from verl.experimental.agent_loop import AgentLoopOutput

from verl_axpo.image_store import store_image
from verl_axpo.integration.lineage import Session, Transcript


async def transcribe(
    session: Session, published: AgentLoopOutput, tokenizer: Any, trace_dir: str | None
) -> Transcript | None:
    """The session's whole response, with the mask that is trained on; None when no trace is written.

    An image that cannot be stored costs no rollout: the trainer reads `trace_error` and stops before it updates.
    """
    if trace_dir is None:
        return None
    whole, kwargs = session.output, session.kwargs
    trained = np.zeros(len(whole.response_ids), dtype=np.int8)
    trained[: len(published.response_mask)] = published.response_mask
    images = (whole.multi_modal_data or {}).get("images") or ()
    trace_error, stored = None, list[str]()
    try:
        stored = await asyncio.gather(*(asyncio.to_thread(store_image, trace_dir, image) for image in images))
    except OSError as error:
        trace_error = str(error)
    return Transcript(
        question=question_of(kwargs["raw_prompt"]),
        ground_truth=(kwargs.get("reward_model") or {}).get("ground_truth"),
        images=tuple(stored),
        prompt_len=len(whole.prompt_ids),
        response_ids=np.asarray(whole.response_ids, dtype=np.int32),
        policy_mask=np.asarray(whole.response_mask, dtype=np.int8),
        trained_mask=trained,
        logprobs=np.asarray(whole.response_logprobs or [0.0] * len(whole.response_ids), dtype=np.float32),
        text=tokenizer.decode(whole.response_ids),
        num_turns=whole.num_turns,
        trace_error=trace_error,
    )


def question_of(messages: Sequence[Mapping[str, Any]]) -> str:
    """The text of the last user message."""
    content = next((one["content"] for one in reversed(list(messages)) if one["role"] == "user"), "")
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content).strip()
