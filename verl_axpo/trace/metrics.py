"""The metrics of a step that follow from its rows, but not from the facts that `core` decides on.

    trainer: rows of the batch   -> tool calls, generated tokens -> `axpo/tool/...`, `axpo/extra_tokens_ratio`
    audit:   records of the trace -> the same                    -> the same

`core.metrics` has the others. What follows from neither is listed in `audit/metrics.py`.
"""

from collections import defaultdict
from collections.abc import Iterable

from verl_axpo.core.metrics import PREFIX
from verl_axpo.trace.records import UNDECODABLE, ToolCall


def tool_metrics(calls: Iterable[ToolCall]) -> dict[str, float]:
    """`tool/{name}/...` of each tool that was called: number of calls, of those that failed, mean seconds of a call.

    `errors` counts every call that did not succeed, `infra_failures` those of them that a service is to blame for.

    Args:
        calls: of all rows of the step, rollouts and continuations, in any order.
    """
    by_name: dict[str, list[ToolCall]] = defaultdict(list)
    for call in calls:
        by_name[_metric_name(call)].append(call)
    metrics: dict[str, float] = {}
    for name, calls_of_tool in by_name.items():
        metrics[f"{PREFIX}tool/{name}/calls"] = float(len(calls_of_tool))
        metrics[f"{PREFIX}tool/{name}/errors"] = float(sum(not call.ok for call in calls_of_tool))
        metrics[f"{PREFIX}tool/{name}/infra_failures"] = float(sum(call.infra for call in calls_of_tool))
        metrics[f"{PREFIX}tool/{name}/seconds"] = sum(call.seconds for call in calls_of_tool) / len(calls_of_tool)
    return metrics


def token_metrics(generated: Iterable[tuple[bool, int]]) -> dict[str, float]:
    """`extra_tokens_ratio`: generated tokens of continuations over those of rollouts; nothing where those are none.

    Args:
        generated: per row whether it is a continuation, and the tokens that were generated for it, so without a
            continuation's prefix.
    """
    tokens = {False: 0, True: 0}
    for continues, number in generated:
        tokens[continues] += number
    return {f"{PREFIX}extra_tokens_ratio": tokens[True] / tokens[False]} if tokens[False] else {}


def _metric_name(call: ToolCall) -> str:
    """The tool's name; a policy can write any name, and must not be able to fill the log with keys."""
    if not call.name:
        return UNDECODABLE
    return "unknown" if (call.error or "").startswith("Unknown function") else call.name
