"""The numbers of an evaluation.

Evaluation -> summary(): the measures of each column
Result     -> breakdown(): all that is countable of a benchmark -> detail_tables()
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

import numpy as np
import pandas as pd

from verl_axpo.core.types import Status
from verl_axpo.report.results import Evaluation, Result, Row
from verl_axpo.report.stats import MEASURES, Estimate, average
from verl_axpo.report.table import Rows, Table
from verl_axpo.trace.records import UNDECODABLE, ToolCall

MOST_CHARACTERS = 40  # of a tool's name
OUTCOMES = {"correct": True, "wrong": False, "unscored": None}
USES = {"tool": "tool", "no_tool": "no tool"}
DETAILS = {
    "statuses": "How rollouts ended and who scored them",
    "outcomes": "Tool use and outcome",
    "tools": "Tools",
    "lengths": "Lengths and turns",
    "conventions": "Other conventions of the scorers, %",
}

Numbers = Mapping[str, Mapping[str, Estimate]]  # measure -> column
Breakdowns = Mapping[str, Mapping[str, Any]]  # column -> breakdown() of its benchmark


def summary(evaluation: Evaluation) -> dict[str, dict[str, Estimate]]:
    """Measure -> column -> mean with its 95 % bootstrap interval over questions."""
    columns = evaluation.columns()
    return {measure: {name: average(group, measure) for name, group in columns.items()} for measure in MEASURES}


def breakdown(result: Result) -> dict[str, Any]:
    """Everything countable about one benchmark, as report.json has it."""
    usable = [row for row in result.rows if row.usable]
    deciders = Counter(row.score.by if row.correct is not None and row.score else "nobody" for row in usable)
    exact = Counter(row.token_exact for row in usable)
    return {
        "questions": len(result.uids),
        "rollouts": {"planned": len(result.uids) * result.rollouts, "done": len(result.rows)},
        "incomplete_questions": result.incomplete(),
        "statuses": {status.value: sum(row.status is status for row in result.rows) for status in Status},
        "scored_by": {name: deciders[name] for name in ("rule", "judge", "nobody")},
        "values": _values(usable),
        "outcome": {
            use: {
                name: sum(row.correct is correct and row.uses_tool is (use == "tool") for row in usable)
                for name, correct in OUTCOMES.items()
            }
            for use in USES
        },
        "tools": _tool_counts(usable),
        "response_tokens": _quantiles([row.response_tokens for row in usable]),
        "turns": dict(sorted(Counter(row.turns for row in usable).items())),
        "seconds": _quantiles([row.seconds for row in usable]),
        "model_seconds": _quantiles([row.model_seconds for row in usable]),
        "token_exact": {"exact": exact[True], "differs": exact[False], "unknown": exact[None]},
    }


def _values(rows: Sequence[Row]) -> dict[str, float]:
    """The mean of each further number of the scores (another convention, F1); 0 for an answer that has no score."""
    scores = pd.DataFrame([row.score.values for row in rows if row.score and row.score.values])
    unscored = sum(row.undecided and not (row.score and row.score.values) for row in rows)
    return {str(name): float(scores[name].sum() / (scores[name].count() + unscored)) for name in sorted(scores)}


def _tool_counts(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Per tool: calls, calls that failed, rollouts with a call, mean seconds."""
    made: dict[str, list[tuple[int, ToolCall]]] = {}
    for at, row in enumerate(rows):
        for call in row.calls:
            made.setdefault(_named(call), []).append((at, call))
    return {
        name: {
            "calls": len(calls),
            "errors": sum(not call.ok for _, call in calls),
            "rollouts": len({at for at, _ in calls}),
            "seconds": sum(call.seconds for _, call in calls) / len(calls),
        }
        for name, calls in sorted(made.items())
    }


def _named(call: ToolCall) -> str:
    """A policy may write anything as a tool's name; files and plots take whole characters, and not too many."""
    name = call.name.encode("utf-8", "replace").decode()
    return (name if len(name) <= MOST_CHARACTERS else name[:MOST_CHARACTERS] + "...") or UNDECODABLE


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    """Mean, median, 90th percentile and maximum; {} of nothing."""
    if not values:
        return {}
    p50, p90, highest = map(float, np.quantile(values, [0.5, 0.9, 1.0]))
    return {"mean": float(np.mean(values)), "p50": p50, "p90": p90, "max": highest}


def detail_tables(parts: Breakdowns) -> dict[str, Table]:
    """Title -> table, one line per benchmark or tool; a table without lines is left out."""
    rows: dict[str, Rows] = {name: [] for name in DETAILS}
    for benchmark, part in parts.items():
        first: dict[str, Any] = {"benchmark": benchmark}
        scored, exact = part["scored_by"], part["token_exact"]
        rows["statuses"].append(
            first
            | {"questions": part["questions"], **part["rollouts"], **part["statuses"]}
            | {f"by {who} %": Estimate.of(count, sum(scored.values()) or 1) for who, count in scored.items()}
            | {"incomplete questions": part["incomplete_questions"]}
        )
        counts = {
            f"{USES[use]}, {name}": count for use, cells in part["outcome"].items() for name, count in cells.items()
        }
        rates = {f"correct: {USES[use]} %": _correct(outcomes) for use, outcomes in part["outcome"].items()}
        rows["outcomes"].append(first | counts | rates)
        for tool, calls in part["tools"].items():
            rows["tools"].append(
                first
                | {"tool": tool, "calls": calls["calls"], "rollouts with a call": calls["rollouts"]}
                | {"failed %": Estimate.of(calls["errors"], calls["calls"]), "seconds per call": calls["seconds"]}
            )
        rows["lengths"].append(
            first
            | {f"tokens, {word}": part["response_tokens"].get(word, nan) for word in ("mean", "p50", "p90", "max")}
            | {"turns: rollouts": ", ".join(f"{turns}: {count}" for turns, count in part["turns"].items())}
            | {"seconds, mean": part["seconds"].get("mean", nan)}
            | {"of these the model": part["model_seconds"].get("mean", nan)}
            | {"re-rendered exactly": exact["exact"], "compared": exact["exact"] + exact["differs"]}
        )
        if part["values"]:
            rows["conventions"].append(first | {name: Estimate.of(value) for name, value in part["values"].items()})
    return {DETAILS[name]: Table(name=name, rows=lines) for name, lines in rows.items() if lines}


def _correct(outcomes: Mapping[str, int]) -> Estimate:
    total = sum(outcomes.values()) or nan
    return Estimate(value=outcomes["correct"] / total, at_most=(outcomes["correct"] + outcomes["unscored"]) / total)
