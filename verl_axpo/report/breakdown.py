"""A run taken apart: held-out results by data source (in the tiny world: by family), calls by tool -> two tables.

The former are verl's own validation metrics: `acc`, not the reward, which may pay for tool calls. They count an infra
failure as wrong; the tables of the whole held-out set leave it out.
"""

import re
from collections.abc import Mapping, Sequence

from verl_axpo.report.curves import by_arm
from verl_axpo.report.render import Table
from verl_axpo.report.runs import Run

_COUNTS = ("calls", "errors", "infra_failures", "seconds")
_TOOL = re.compile(r"axpo/tool/(.+)/calls")
_MEAN = re.compile(r"val-(?:core|aux)/(.+)/(acc|uses_tool)/mean@\d+")


def sources_table(runs: Sequence[Run]) -> Table:
    """Per arm and source, before -> after training: correct answers and tool use in percent, means over the seeds.

    Empty where there is only one source: the other tables say the same.
    """
    rows = [["arm", "data source", "correct %", "tool use %", "seeds"]]
    for arm, some in by_arm(runs).items():
        stages = [stage for run in some if (stage := _first_and_last(run))]
        for source in sorted({source for first, _ in stages for source, _ in first}):
            cells = [_change(stages, (source, what)) for what in ("acc", "uses_tool")]
            rows.append([arm, source, *cells, str(len(stages))])
    return rows if len({row[1] for row in rows[1:]}) > 1 else []


def tools_table(runs: Sequence[Run]) -> Table:
    """Per arm and tool over all steps and seeds: calls, how many of them erred, and the time of one."""
    rows = [["arm", "tool", "calls", "errors %", "infra failures", "seconds per call"]]
    for arm, some in by_arm(runs).items():
        steps = [metrics for run in some for metrics in run.metrics.values()]
        for tool in sorted({match[1] for metrics in steps for key in metrics if (match := _TOOL.fullmatch(key))}):
            of_tool = [
                {what: metrics.get(f"axpo/tool/{tool}/{what}", 0.0) for what in _COUNTS}
                for metrics in steps
                if metrics.get(f"axpo/tool/{tool}/calls")
            ]
            calls = sum(one["calls"] for one in of_tool)
            seconds = sum(one["seconds"] * one["calls"] for one in of_tool) / calls
            errors, failures = (sum(one[what] for one in of_tool) for what in ("errors", "infra_failures"))
            rows.append([arm, tool, f"{calls:.0f}", f"{100 * errors / calls:.1f}", f"{failures:.0f}", f"{seconds:.3f}"])
    return rows if len(rows) > 1 else []


def _first_and_last(run: Run) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str], float]] | None:
    """(source, what) -> mean, of the first and the last validation; None if the run had fewer than two."""
    validated = [found for step in sorted(run.metrics) if (found := _means(run.metrics[step]))]
    return (validated[0], validated[-1]) if len(validated) > 1 else None


def _means(metrics: Mapping[str, float]) -> dict[tuple[str, str], float]:
    matches = ((_MEAN.fullmatch(key), value) for key, value in metrics.items())
    return {(match[1], match[2]): value for match, value in matches if match}


def _change(
    stages: Sequence[tuple[dict[tuple[str, str], float], dict[tuple[str, str], float]]], key: tuple[str, str]
) -> str:
    ends = [[stage[key] for stage in side if key in stage] for side in zip(*stages, strict=True)]
    return " → ".join(f"{100 * sum(values) / len(values):.1f}" if values else "-" for values in ends)
