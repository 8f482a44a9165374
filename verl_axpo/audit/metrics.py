"""The audit's rule on metrics: records of a step -> the `axpo/` metrics of its summary, by name and by value."""

import re
from collections.abc import Iterator

from verl_axpo.audit.row import TracedRow
from verl_axpo.audit.view import Mismatch, View, close
from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.metrics import PREFIX, step_metrics
from verl_axpo.trace.metrics import token_metrics, tool_metrics, version_metrics

# What may be in a summary with any value, or not be there. All else that begins with `axpo/` is recomputed
NOT_IN_THE_TRACE = {
    f"{PREFIX}speculated_tokens_wasted": "what was thrown away is in no record",
    f"{PREFIX}prefix_cache_hit_rate": (
        "the engine's count of cached tokens is in no record, and an engine may give none"
    ),
}

# Not in every trace of 0.1.0: compared where they are there
_LATER_METRICS = re.compile(f"{PREFIX}(tool/.*/infra_failures|failed_sessions)")


def check_metrics(view: View) -> Iterator[Mismatch]:
    """All that follows from rewards, tool use, resampling, tool calls and tokens, and nothing else."""
    expected = recomputed(view)
    traced = {name: value for name, value in view.summary.metrics.items() if name.startswith(PREFIX)}
    for name, value in expected.items():
        if name not in traced and not _LATER_METRICS.fullmatch(name):
            yield "summary", f"{name} {value:.7f}", f"no {name}"
        elif name in traced and not _same(traced[name], value):
            yield "summary", f"{name} {value:.7f}", str(traced[name])
    for name in sorted(traced.keys() - expected.keys() - NOT_IN_THE_TRACE.keys()):
        yield "summary", f"no {name}", str(traced[name])


def _same(traced: object, value: float) -> bool:
    return isinstance(traced, (int, float)) and close(traced, value)  # JSON writes NaN as null


def recomputed(view: View) -> dict[str, float]:
    """Every `axpo/` metric of the step that its records determine."""
    summary, config = view.summary, view.summary.config
    number = summary.rollouts_per_question
    return {
        **step_metrics(view.rollouts, config, questions=summary.questions, rollouts_per_question=number),
        **token_metrics((row.record.source_session is not None, _generated(row, config)) for row in view.rows),
        **tool_metrics(call for record in view.records for call in record.tool_calls),
        **version_metrics((record.uid, record.source_session, record.weight_versions) for record in view.records),
    }


def _generated(row: TracedRow, config: AxpoConfig) -> int:
    """Tokens generated for this row: those with a log-prob, without the prefix that a continuation was given."""
    continues = row.record.source_session is not None and config.prefix == "fixed"
    return row.generated - (row.record.prefix_len or 0 if continues else 0)
