"""The `axpo/` metrics of one step: core's, the trace's, and the one that needs the engine's cache; verl's of length."""

from collections.abc import Sequence
from statistics import fmean

from verl_axpo.core.metrics import PREFIX, step_metrics
from verl_axpo.core.step import Resampled
from verl_axpo.core.types import Kind
from verl_axpo.integration.lineage import BatchRow
from verl_axpo.integration.records import StepData
from verl_axpo.trace.metrics import token_metrics, tool_metrics


def batch_metrics(data: StepData) -> dict[str, float]:
    """All metrics of design.md that apply to the step; a share of nothing is left out.

    The audit recomputes them from the trace; one that the trace does not determine must be named in `audit/metrics.py`.
    """
    continuations = data.continuations()
    resampled = [
        Resampled(
            candidate=candidate,
            continuations=tuple(one.rollout for one in continuations[candidate.uid, candidate.session]),
        )
        for candidate in data.selected()
        if (candidate.uid, candidate.session) in continuations  # else its resampling failed
    ]
    return {
        **step_metrics(data.groups(), resampled, data.config, rollouts_per_question=data.rollouts_per_question),
        **token_metrics((row.row.kind, row.episode.num_generated) for row in data.rows),
        **_cache_metrics(data.rows),
        **tool_metrics(call for row in data.rows for call in row.episode.tool_calls),
    }


def _cache_metrics(rows: Sequence[BatchRow]) -> dict[str, float]:
    """The share of the resamples' prompt and prefix tokens that the engine had in its cache."""
    resamples = [row.episode for row in rows if row.row.kind is Kind.RESAMPLE]
    looked_up = [one for one in resamples if one.cached_tokens is not None]
    tokens = sum(one.prompt_tokens for one in looked_up)
    cached = sum(one.cached_tokens or 0 for one in looked_up)
    return {f"{PREFIX}prefix_cache_hit_rate": cached / tokens} if tokens else {}


def length_metrics(lengths: Sequence[int]) -> dict[str, float]:
    """verl's `response_length/...` of the ordinary rollouts, which its own sum would see with the sources cut.

    Args:
        lengths: tokens of each response.

    As in verl, `clip_ratio` is the share that is as long as the longest, and `non_aborted` leaves empty ones out.
    """
    kinds = {"response_length": list(lengths), "response_length_non_aborted": [one for one in lengths if one > 0]}
    return {
        f"{name}/{key}": value
        for name, some in kinds.items()
        if some
        for key, value in {
            "mean": fmean(some),
            "max": float(max(some)),
            "min": float(min(some)),
            "clip_ratio": some.count(max(some)) / len(some),
        }.items()
    }
