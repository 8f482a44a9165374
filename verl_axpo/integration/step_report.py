"""What a step did, as the trainer tells it: rows, advantages, decisions -> metrics, the trace's records, summary.

Everywhere `rows` are those of the step without padding, R of them, in the order of the batch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np
import numpy.typing as npt
import torch

from verl_axpo.core.budget import max_prefixes, ranked_order
from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.metrics import PREFIX, step_metrics
from verl_axpo.core.step import recovery
from verl_axpo.core.streaming import Settlement
from verl_axpo.core.types import Candidate, continuations_of
from verl_axpo.integration.batch_row import BatchRow
from verl_axpo.integration.coordinator import Decisions
from verl_axpo.trace.metrics import token_metrics, tool_metrics, version_metrics
from verl_axpo.trace.records import StepSummary, TrajectoryRecord


def batch_metrics(
    rows: Sequence[BatchRow], config: AxpoConfig, *, questions: Sequence[str], rollouts_per_question: int
) -> dict[str, float]:
    """All `axpo/` metrics of the step; a share of nothing is left out.

    The audit recomputes them from the trace; a metric that the trace does not determine must be named in
    `audit/metrics.py`.
    """
    rollouts = [row.rollout for row in rows]
    return {
        **step_metrics(rollouts, config, questions=questions, rollouts_per_question=rollouts_per_question),
        **token_metrics((row.rollout.source is not None, row.generated) for row in rows),
        **_cache_metrics(rows),
        **({f"{PREFIX}speculated_tokens_wasted": float(sum(row.wasted for row in rows))} if config.speculate else {}),
        **tool_metrics(call for row in rows for call in row.tool_calls),
        **version_metrics((row.rollout.uid, row.rollout.source, row.weight_versions) for row in rows),
    }


def _cache_metrics(rows: Sequence[BatchRow]) -> dict[str, float]:
    """The share of the continuations' prompt and prefix tokens that the engine had in its cache."""
    looked_up = [
        (row.prompt_tokens, row.cached_tokens)
        for row in rows
        if row.rollout.source is not None and row.cached_tokens is not None
    ]
    tokens = sum(asked for asked, _ in looked_up)
    return {f"{PREFIX}prefix_cache_hit_rate": sum(cached for _, cached in looked_up) / tokens} if tokens else {}


def length_metrics(lengths: Sequence[int]) -> dict[str, float]:
    """verl's `response_length/...` of the ordinary rollouts, which its own sum would see with the sources cut.

    Args:
        lengths: tokens of each response.

    As in verl, `clip_ratio` is the share that is as long as the longest, and `non_aborted` leaves empty ones out.
    """
    groups = {"response_length": list(lengths), "response_length_non_aborted": [tokens for tokens in lengths if tokens]}
    return {
        f"{name}/{key}": value
        for name, group in groups.items()
        if group
        for key, value in {
            "mean": fmean(group),
            "max": float(max(group)),
            "min": float(min(group)),
            "clip_ratio": group.count(max(group)) / len(group),
        }.items()
    }


def joined(decisions: Iterable[Decisions]) -> Decisions:
    """Those of several questions, as one."""
    ranked: dict[str, tuple[Candidate, ...]] = {}
    selected: dict[str, tuple[Candidate, ...]] = {}
    settled: dict[str, Settlement] = {}
    for told in decisions:
        ranked.update(told.ranked)
        selected.update(told.selected)
        settled.update({settlement.uid: settlement for settlement in told.settled})
    in_order = sorted(settled.values(), key=lambda settlement: settlement.order)
    return Decisions(ranked=ranked, selected=selected, settled=tuple(in_order))


def step_summary(
    step: int,
    config: AxpoConfig,
    decisions: Decisions,
    metrics: Mapping[str, float],
    *,
    questions: Sequence[str],
    rollouts_per_question: int,
    normalize_std: bool,
    tags: Mapping[str, int],
    call_syntax: str | None = None,
    starts_in_think: bool | None = None,
) -> StepSummary:
    """The step's decisions and its metrics; `tags` are the token ids of the tags around calls and thinking."""
    candidates = ranked_order({uid: decisions.ranked.get(uid, ()) for uid in questions})
    chosen = {candidate for selected in decisions.selected.values() for candidate in selected}
    return StepSummary(
        step=step,
        config=config,
        questions=list(questions),
        rollouts_per_question=rollouts_per_question,
        budget=max_prefixes(len(questions), rollouts_per_question, config),
        candidates=candidates,
        selected=[candidate for candidate in candidates if candidate in chosen],
        metrics=dict(metrics),
        normalize_std=normalize_std,
        tags=tags,
        settled=decisions.settled if config.allocation == "streaming" else None,
        call_syntax=call_syntax,
        starts_in_think=starts_in_think,
    )


def finished_records(
    rows: Sequence[BatchRow],
    advantages: Sequence[float],
    entropies: Sequence[torch.Tensor | None],
    config: AxpoConfig,
    *,
    step: int,
    questions: Sequence[str],
) -> list[TrajectoryRecord]:
    """The workers' records with what the trainer knows, in the order of question and session.

    Args:
        rows: each with its record.
        advantages: (R,) values on the rows' trained tokens.
        entropies: per row the trainer's (T,) policy entropy in nats over the published response, None if it has none.
        config: the algorithm's settings.
        step: the trainer's number of the step.
        questions: uids in batch order.

    Raises:
        OSError: a worker could not store an image, so the trace would lack it.
    """
    errors = [row.trace_error for row in rows if row.trace_error]
    if errors:
        raise OSError(f"trace of step {step}: {len(errors)} rows lack an image; the first: {errors[0]}")
    continuations = continuations_of(row.rollout for row in rows)
    records = []
    for row, advantage, entropy in zip(rows, advantages, entropies, strict=True):
        record, resampled = row.record, continuations.get((row.rollout.uid, row.rollout.session), ())
        assert record is not None, "a trace is written, so the workers made records"
        recovered = recovery(resampled, config) if row.selected else None
        records.append(
            replace(
                record,
                step=step,
                advantage=advantage,
                recovery=recovered,
                advantage_prefix=advantage if recovered is not None and config.credits_prefix else None,
                entropies=None if entropy is None else _of_generated(entropy, record),
                entropy=record.entropy if record.entropy is not None else _span_mean(entropy, record.tool_call_span),
            )
        )
    places = {uid: place for place, uid in enumerate(questions)}
    return sorted(records, key=lambda record: (places[record.uid], record.session))


def _of_generated(values: torch.Tensor, record: TrajectoryRecord) -> npt.NDArray[np.float32]:
    """(T,) of the tokens that the policy generated, NaN elsewhere; three digits, for a reader's eyes and the disk."""
    padded = np.full(len(record.response_ids), np.nan, dtype=np.float32)
    padded[: len(values)] = values.float().numpy()[: len(padded)].round(3)
    padded[np.isnan(np.asarray(record.logprobs, dtype=np.float32))] = np.nan
    return padded


def _span_mean(values: torch.Tensor | None, span: tuple[int, int] | None) -> float | None:
    """Mean over the tool call's tokens; None without values or call, or for a row that was cut in front of them."""
    if values is None or span is None or len(values) < span[1]:
        return None
    return float(values[slice(*span)].double().mean())
