"""What travels with a row of verl's batch from the worker to the trainer: published trajectory -> BatchRow -> bytes.

It is the field `AXPO_FIELD` of the row, and all that the trainer knows of the rollout side. With a trace, the worker
makes the row's record, too; the trainer adds what only it knows (`step_report.finished_records`).
"""

import asyncio
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import transfer_queue as tq
from transfer_queue import KVBatchMeta

from verl_axpo.core.types import Rollout, usable
from verl_axpo.image_store import store_image
from verl_axpo.integration.coordinator import Decisions
from verl_axpo.trace.records import ToolCall, TrajectoryRecord

if TYPE_CHECKING:  # rows are unpacked in processes that need no agent loop
    from verl_axpo.integration.trajectory import Trajectory

AXPO_FIELD = "axpo"  # the name of our field in the TransferQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """One row of the batch as the trainer needs it. Lengths in tokens.

    `selected`: its prefix was resampled. `grpo_tokens`: how many tokens GRPO would have trained in its place;
    `response_len`: of the response before any cut; `generated`: of the response, by the policy, for this row.
    `prompt_tokens`, `cached_tokens`: of its first request. `weight_versions`: the oldest and the newest weights that
    generated tokens for this row, each the number of the step after which they were sent; None if the engine told none.
    `decisions`: about its question, where the trainer may sample the row when the coordinator has forgotten them.
    `record` is there when a trace is written; `trace_error` says why an image of it could not be stored: the trainer
    then stops in this step. `wasted`: tokens that its group's speculation generated for nothing, told by one of the
    group's rows.
    """

    rollout: Rollout
    selected: bool
    grpo_tokens: int
    response_len: int
    generated: int
    prompt_tokens: int
    cached_tokens: int | None
    tool_calls: tuple[ToolCall, ...]
    weight_versions: tuple[int, int] | None = None
    decisions: Decisions | None = None
    record: TrajectoryRecord | None = None
    trace_error: str | None = None
    wasted: int = 0

    def pack(self) -> bytes:
        """As a field of verl's batch: the TransferQueue would turn a dataclass into a dict."""
        return pickle.dumps(self, protocol=pickle.HIGHEST_PROTOCOL)

    @classmethod
    def unpack(cls, field: bytes) -> "BatchRow":
        """Back from the batch; the bytes come from our own workers."""
        return cast(BatchRow, pickle.loads(field))


async def batch_row(
    trajectory: "Trajectory",
    trained: "Trajectory",
    *,
    source: int | None,
    selected: bool,
    tokenizer: Any,
    trace_dir: str | None,
    decisions: Decisions | None = None,
) -> BatchRow:
    """The row of a trajectory, of which `trained` is published; its record too, if there is a `trace_dir`.

    An image that cannot be stored costs no rollout: see `BatchRow.trace_error`.
    """
    rollout = trajectory.as_rollout(source)
    record, trace_error = None, None
    if trace_dir is not None:
        images, trace_error = await _stored(trajectory.images, trace_dir)
        record = _record(trajectory, trained, source=source, selected=selected, images=images, tokenizer=tokenizer)
    return BatchRow(
        rollout=rollout,
        selected=selected,
        grpo_tokens=sum(trajectory.response_mask) if source is None and usable([rollout]) else 0,
        response_len=len(trajectory.response_ids),
        generated=sum(trajectory.response_mask) - trajectory.given,
        prompt_tokens=trajectory.prompt_tokens,
        cached_tokens=trajectory.cached_tokens,
        tool_calls=trajectory.tool_calls,
        weight_versions=trajectory.weight_versions,
        decisions=decisions,
        record=record,
        trace_error=trace_error,
    )


async def _stored(images: Sequence[Any], trace_dir: str) -> tuple[tuple[str, ...], str | None]:
    """The images' paths in the trace, and what kept them from being stored."""
    try:
        paths = await asyncio.gather(*(asyncio.to_thread(store_image, trace_dir, image) for image in images))
    except OSError as error:
        return (), str(error)
    return tuple(paths), None


def _record(
    trajectory: "Trajectory",
    trained: "Trajectory",
    *,
    source: int | None,
    selected: bool,
    images: tuple[str, ...],
    tokenizer: Any,
) -> TrajectoryRecord:
    """The whole response, T tokens, with the mask that is trained on. The trainer knows step, recovery, advantages."""
    length = len(trajectory.response_ids)
    mask = np.zeros(length, dtype=np.int8)
    mask[: len(trained.response_mask)] = trained.response_mask
    logprobs = np.asarray(trajectory.response_logprobs or [0.0] * length, dtype=np.float32)
    return TrajectoryRecord(
        step=int(trajectory.sample["global_steps"]),
        uid=trajectory.uid,
        session=trajectory.session,
        source_session=source,
        selected=selected,
        status=trajectory.status,
        question=question_of(trajectory.sample["raw_prompt"]),
        ground_truth=(trajectory.sample.get("reward_model") or {}).get("ground_truth"),
        images=images,
        prompt_len=len(trajectory.prompt_ids),
        response_ids=np.asarray(trajectory.response_ids, dtype=np.int32),
        response_mask=mask,
        logprobs=np.where(np.asarray(trajectory.response_mask) == 1, logprobs, np.nan).astype(np.float32),
        text=tokenizer.decode(trajectory.response_ids),
        tool_calls=trajectory.tool_calls,
        prefix_len=trajectory.prefix_len,
        tool_call_span=trajectory.tool_call_span,
        confidence=trajectory.confidence,
        entropy=trajectory.entropy,
        reward=float(trajectory.reward_score or 0.0),
        advantage=0.0,
        num_turns=trajectory.num_turns,
        started=trajectory.started,
        finished=trajectory.finished,
        turn_lengths=trajectory.turn_lengths or None,
        weight_versions=trajectory.weight_versions,
    )


def question_of(messages: Sequence[Mapping[str, Any]]) -> str:
    """The text of the last user message."""
    contents = [message["content"] for message in messages if message["role"] == "user"]
    content = contents[-1] if contents else ""
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content).strip()


def read_rows(batch: KVBatchMeta) -> list[BatchRow | None]:
    """What each row of the batch is, in batch order; None for verl's padding, which copies a real row's fields."""
    data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=[AXPO_FIELD])
    fields = zip(batch.tags, data[AXPO_FIELD], strict=True)
    return [None if tag.get("is_padding", False) else BatchRow.unpack(field) for tag, field in fields]


def read_entropies(batch: KVBatchMeta, rows: Sequence[BatchRow | None], *, computed: bool) -> list[torch.Tensor | None]:
    """The trainer's exact policy entropy (T,) of each trained token, nats, of every row that is not padding.

    Args:
        computed: false in verl's bypass mode, where the trainer computes none before the update.
    """
    if not computed:
        return [None for row in rows if row is not None]
    data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["entropy"])
    return [entropy for entropy, row in zip(data["entropy"].unbind(), rows, strict=True) if row is not None]
