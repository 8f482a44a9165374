"""A step as the trainer saw it -> the trace's records and summary."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from verl_axpo.core.advantage import recovery
from verl_axpo.core.budget import max_prefixes
from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Candidate, Group, Kind, Row
from verl_axpo.integration.coordinator import Decisions
from verl_axpo.integration.lineage import BatchRow
from verl_axpo.trace.records import StepSummary, TrajectoryRecord, ranked_order


@dataclass(slots=True, kw_only=True)
class StepData:
    """The rows of one step without padding, R of them, with the advantages that were put on them.

    `decisions` are the coordinator's; `entropies`: per row the trainer's (T,) policy entropy
    in nats over the published response; `tags`: token ids of the tags around calls and thinking.
    """

    step: int
    config: AxpoConfig
    questions: Sequence[str]
    rollouts_per_question: int
    rows: Sequence[BatchRow]
    advantages: Sequence[float]
    decisions: Decisions
    normalize_std: bool
    entropies: Sequence[torch.Tensor] = field(default_factory=list)
    tags: Mapping[str, int] | None = None

    def groups(self) -> list[Group]:
        """The ordinary rollouts by question, in batch order; none where all of its sessions failed."""
        members: dict[str, list[BatchRow]] = {uid: [] for uid in self.questions}
        for row in self.rows:
            if row.row.kind is Kind.ROLLOUT:
                members[row.row.uid].append(row)
        return [
            Group(uid=uid, rollouts=tuple(one.rollout for one in sorted(some, key=lambda one: one.row.session)))
            for uid, some in members.items()
        ]

    def continuations(self) -> dict[tuple[str, int], list[BatchRow]]:
        """(uid, source session) -> its resamples."""
        found: dict[tuple[str, int], list[BatchRow]] = {}
        for row in self.rows:
            if row.row.source_session is not None:
                found.setdefault((row.row.uid, row.row.source_session), []).append(row)
        return found

    def candidates(self) -> tuple[Candidate, ...]:
        """All of them, in the order in which the budget was handed out."""
        return ranked_order({uid: self.decisions.ranked.get(uid, ()) for uid in self.questions})

    def selected(self) -> list[Candidate]:
        """Those that got budget, in the same order."""
        chosen = {one for some in self.decisions.selected.values() for one in some}
        return [one for one in self.candidates() if one in chosen]


def step_summary(data: StepData, metrics: Mapping[str, float]) -> StepSummary:
    """The step's decisions and its `axpo/` metrics."""
    return StepSummary(
        step=data.step,
        config=data.config,
        questions=list(data.questions),
        rollouts_per_question=data.rollouts_per_question,
        budget=max_prefixes(len(data.questions), data.rollouts_per_question, data.config),
        candidates=data.candidates(),
        selected=data.selected(),
        metrics={key: float(value) for key, value in metrics.items() if key.startswith("axpo/")},
        normalize_std=data.normalize_std,
        tags=data.tags,
    )


def trajectory_records(data: StepData) -> list[TrajectoryRecord]:
    """One record per row, in the order of question and session.

    Raises:
        OSError: a worker could not store an image, so the trace would lack it.
    """
    errors = [row.transcript.trace_error for row in data.rows if row.transcript and row.transcript.trace_error]
    if errors:
        raise OSError(f"trace of step {data.step}: {len(errors)} rows lack an image; the first: {errors[0]}")
    places = {uid: place for place, uid in enumerate(data.questions)}
    return sorted(_records(data), key=lambda record: (places[record.uid], record.session))


def _records(data: StepData) -> Iterator[TrajectoryRecord]:
    continuations = data.continuations()
    for row, advantage, entropy in zip(data.rows, data.advantages, data.entropies, strict=True):
        recovered = _recovery(row.row, continuations.get((row.row.uid, row.row.session), ()), data.config)
        yield _record(row, data.step, advantage, entropy, recovered, credited=data.config.credits_prefix)


def _recovery(row: Row, continuations: Sequence[BatchRow], config: AxpoConfig) -> int | None:
    return recovery([one.row for one in continuations], config) if row.selected else None


def _record(
    row: BatchRow, step: int, advantage: float, entropy: torch.Tensor, recovered: int | None, *, credited: bool
) -> TrajectoryRecord:
    transcript, episode = row.transcript, row.episode
    assert transcript is not None, "a trace is written, so the workers made transcripts"
    return TrajectoryRecord(
        step=step,
        uid=row.row.uid,
        session=row.row.session,
        kind=row.row.kind,
        source_session=row.row.source_session,
        selected=row.row.selected,
        status=row.row.status,
        question=transcript.question,
        ground_truth=transcript.ground_truth,
        images=transcript.images,
        prompt_len=transcript.prompt_len,
        response_ids=transcript.response_ids,
        response_mask=transcript.trained_mask,
        logprobs=np.where(transcript.policy_mask == 1, transcript.logprobs, np.nan).astype(np.float32),
        text=transcript.text,
        tool_calls=episode.tool_calls,
        prefix_len=episode.prefix_len,
        tool_call_span=episode.tool_call_span,
        confidence=episode.confidence,
        entropy=row.rollout.entropy if row.rollout.entropy is not None else _span_mean(entropy, episode.tool_call_span),
        reward=row.row.reward,
        recovery=recovered,
        advantage_prefix=advantage if recovered is not None and credited else None,
        advantage=advantage,
        num_turns=transcript.num_turns,
        started=episode.started,
        finished=episode.finished,
        turn_lengths=episode.turn_lengths or None,
    )


def _span_mean(values: torch.Tensor, span: tuple[int, int] | None) -> float | None:
    """Mean over the tool call's tokens; None without a call, or for a source whose row was cut in front of them."""
    if span is None or len(values) < span[1]:
        return None
    return float(values[slice(*span)].double().mean())
