"""The `axpo/` metrics of one step: core's, and those that need tokens, the engine's cache or tool calls."""

from collections import defaultdict
from collections.abc import Sequence

from verl_axpo.core.metrics import PREFIX, step_metrics
from verl_axpo.core.step import Resampled
from verl_axpo.core.types import Kind
from verl_axpo.integration.lineage import BatchRow
from verl_axpo.integration.records import StepData
from verl_axpo.trace.records import ToolCall


def batch_metrics(data: StepData) -> dict[str, float]:
    """All metrics of design.md that apply to the step; a share of nothing is left out.

    `extra_tokens_ratio` is generated tokens of resamples over those of rollouts; `prefix_cache_hit_rate` the share of
    the resamples' prompt and prefix tokens that the engine had in its cache; `tool/{name}/seconds` a mean per call.
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
    extra = {**_engine_metrics(data.rows), **_tool_metrics(data.rows)}
    return step_metrics(data.groups(), resampled, data.config) | {PREFIX + name: value for name, value in extra.items()}


def _engine_metrics(rows: Sequence[BatchRow]) -> dict[str, float]:
    resamples = [row.episode for row in rows if row.row.kind is Kind.RESAMPLE]
    ordinary = sum(row.episode.num_generated for row in rows if row.row.kind is Kind.ROLLOUT)
    looked_up = [one for one in resamples if one.cached_tokens is not None]
    tokens = sum(one.prompt_tokens for one in looked_up)
    metrics = {"extra_tokens_ratio": sum(one.num_generated for one in resamples) / ordinary} if ordinary else {}
    if tokens:
        metrics["prefix_cache_hit_rate"] = sum(one.cached_tokens or 0 for one in looked_up) / tokens
    return metrics


def _tool_metrics(rows: Sequence[BatchRow]) -> dict[str, float]:
    calls: dict[str, list[ToolCall]] = defaultdict(list)
    for row in rows:
        for call in row.episode.tool_calls:
            calls[_metric_name(call)].append(call)
    metrics: dict[str, float] = {}
    for name, some in calls.items():
        metrics[f"tool/{name}/calls"] = float(len(some))
        metrics[f"tool/{name}/errors"] = float(sum(not call.ok for call in some))
        metrics[f"tool/{name}/infra_failures"] = float(sum(call.infra for call in some))
        metrics[f"tool/{name}/seconds"] = sum(call.seconds for call in some) / len(some)
    return metrics


def _metric_name(call: ToolCall) -> str:
    """The tool's name; a policy can write any name, and must not be able to fill the log with keys."""
    if not call.name:
        return "undecodable"
    return "unknown" if (call.error or "").startswith("Unknown function") else call.name
