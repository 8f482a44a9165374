"""The metrics of a step that follow from its rows, but not from the facts that `core` decides on.

    trainer: rows of the batch   -> tool calls, generated tokens -> `axpo/tool/...`, `axpo/extra_tokens_ratio`
    audit:   records of the trace -> the same                    -> the same

`core.metrics` has the others. What follows from neither is listed in `audit/metrics.py`.
"""

from collections import defaultdict
from collections.abc import Iterable

from verl_axpo.core.metrics import PREFIX
from verl_axpo.core.types import Kind
from verl_axpo.trace.records import UNDECODABLE, ToolCall


def tool_metrics(calls: Iterable[ToolCall]) -> dict[str, float]:
    """`tool/{name}/...` of each tool that was called: number of calls, of those that failed, mean seconds of a call.

    `errors` counts every call that did not succeed, `infra_failures` those of them that a service is to blame for.

    Args:
        calls: of all rows of the step, rollouts and resamples, in any order.
    """
    by_name: dict[str, list[ToolCall]] = defaultdict(list)
    for call in calls:
        by_name[_metric_name(call)].append(call)
    metrics: dict[str, float] = {}
    for name, some in by_name.items():
        metrics[f"{PREFIX}tool/{name}/calls"] = float(len(some))
        metrics[f"{PREFIX}tool/{name}/errors"] = float(sum(not call.ok for call in some))
        metrics[f"{PREFIX}tool/{name}/infra_failures"] = float(sum(call.infra for call in some))
        metrics[f"{PREFIX}tool/{name}/seconds"] = sum(call.seconds for call in some) / len(some)
    return metrics


def token_metrics(generated: Iterable[tuple[Kind, int]]) -> dict[str, float]:
    """`extra_tokens_ratio`: generated tokens of resamples over those of rollouts; nothing where those are none.

    Args:
        generated: per row its kind and the tokens that were generated for it, so without the prefix of a resample.
    """
    tokens = {Kind.ROLLOUT: 0, Kind.RESAMPLE: 0}
    for kind, number in generated:
        tokens[kind] += number
    if not tokens[Kind.ROLLOUT]:
        return {}
    return {f"{PREFIX}extra_tokens_ratio": tokens[Kind.RESAMPLE] / tokens[Kind.ROLLOUT]}


def _metric_name(call: ToolCall) -> str:
    """The tool's name; a policy can write any name, and must not be able to fill the log with keys."""
    if not call.name:
        return UNDECODABLE
    return "unknown" if (call.error or "").startswith("Unknown function") else call.name
