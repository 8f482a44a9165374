"""What is countable about one benchmark: rows -> statuses, scoring, tools, lengths, turns, as report.json has them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from verl_axpo.core.types import Status
from verl_axpo.eval.report.results import Result, Row
from verl_axpo.trace.records import UNDECODABLE, ToolCall

MOST_CHARACTERS = 40  # of a tool's name


def breakdown(result: Result) -> dict[str, Any]:
    """Everything countable about one benchmark, as report.json has it."""
    rows = result.rows
    usable = [row for row in rows if row.usable]
    return {
        "questions": len(result.uids),
        "rollouts": {"planned": len(result.uids) * result.rollouts, "done": len(rows)},
        "incomplete_questions": result.incomplete(),
        "statuses": {status.value: sum(row.status is status for row in rows) for status in Status},
        "scored_by": scored_by(usable),
        "values": _values(usable),
        "outcome": outcome_matrix(usable),
        "tools": tool_counts(usable),
        "response_tokens": quantiles([row.response_tokens for row in usable]),
        "turns": dict(sorted(Counter(row.turns for row in usable).items())),
        "seconds": quantiles([row.seconds for row in usable]),
        "model_seconds": quantiles([row.model_seconds for row in usable]),
        "token_exact": _exactness(usable),
    }


def scored_by(rows: Sequence[Row]) -> dict[str, int]:
    """How many rollouts the rule, the judge and nobody decided; the last are unscored, not wrong."""
    found = Counter(row.score.by if row.correct is not None and row.score else "nobody" for row in rows)
    return {name: found[name] for name in ("rule", "judge", "nobody")}


def outcome_matrix(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Tool use x outcome."""
    matrix = {use: dict.fromkeys(("correct", "wrong", "unscored"), 0) for use in ("tool", "no_tool")}
    for row in rows:
        outcome = "unscored" if row.correct is None else "correct" if row.correct else "wrong"
        matrix["tool" if row.uses_tool else "no_tool"][outcome] += 1
    return matrix


def tool_counts(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Per tool: calls, calls that failed, rollouts with a call, mean seconds."""
    counts: dict[str, dict[str, float]] = {}
    for row in rows:
        for name in {_named(call) for call in row.calls}:
            counts.setdefault(name, {"calls": 0, "errors": 0, "rollouts": 0, "seconds": 0.0})["rollouts"] += 1
        for call in row.calls:
            one = counts[_named(call)]
            one["calls"] += 1
            one["errors"] += not call.ok
            one["seconds"] += call.seconds
    return {name: {**one, "seconds": one["seconds"] / one["calls"]} for name, one in sorted(counts.items())}


def _named(call: ToolCall) -> str:
    """A policy may write anything as a tool's name; files and plots take whole characters, and not too many."""
    name = call.name.encode("utf-8", "replace").decode()
    return (name if len(name) <= MOST_CHARACTERS else name[:MOST_CHARACTERS] + "...") or UNDECODABLE


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Mean, median, 90th percentile and maximum; {} of nothing."""
    if not values:
        return {}
    median, ninetieth, highest = np.quantile(values, [0.5, 0.9, 1.0])
    return {"mean": float(np.mean(values)), "p50": float(median), "p90": float(ninetieth), "max": float(highest)}


def _values(rows: Sequence[Row]) -> dict[str, float]:
    """The mean of each further number of the scores (another convention, F1); 0 for an answer that has no score."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, value in (row.score.values if row.score else {}).items():
            found.setdefault(name, []).append(value)
    nobody = sum(row.undecided and not (row.score and row.score.values) for row in rows)
    return {name: sum(some) / (len(some) + nobody) for name, some in sorted(found.items())}


def _exactness(rows: Sequence[Row]) -> dict[str, int]:
    found = Counter(row.token_exact for row in rows)
    return {"exact": found[True], "differs": found[False], "unknown": found[None]}
