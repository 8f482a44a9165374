"""A step as the audit's rules want it: rows and summary -> `View`, sorted by what the rules ask for."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from verl_axpo.audit.row import TracedRow
from verl_axpo.audit.tags import Tags
from verl_axpo.core.types import Rollout, groups_of
from verl_axpo.trace import StepSummary, TrajectoryRecord

TOLERANCE = 1e-6  # relative and absolute: a few units in the last place of the float32 that advantages are computed in


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A step as the checks want it; its records have neither tokens nor text."""

    summary: StepSummary
    tags: Tags
    rows: tuple[TracedRow, ...]
    records: tuple[TrajectoryRecord, ...]
    rollouts: tuple[Rollout, ...]  # the same rows, as the algorithm sees them
    groups: dict[str, list[Rollout]]  # by question, in batch order; of fewer than N where a session failed
    at: dict[tuple[str, int], TrajectoryRecord]  # (uid, session) -> its row
    rows_at: dict[tuple[str, int], TracedRow]
    continuations: dict[tuple[str, int], list[TrajectoryRecord]]  # (uid, source session) -> its resampled rows


Mismatch = tuple[str, str, str]  # where, what was expected, what the trace has
Check = Callable[[View], Iterator[Mismatch]]


def view_of(rows: Sequence[TracedRow], summary: StepSummary, tags: Tags) -> View:
    """Sort a step's rows by what the rules ask for."""
    records = tuple(row.record for row in rows)
    continuations: dict[tuple[str, int], list[TrajectoryRecord]] = {}
    for record in records:
        if record.source_session is not None:
            continuations.setdefault((record.uid, record.source_session), []).append(record)
    rollouts = tuple(record.as_rollout() for record in records)
    return View(
        summary=summary,
        tags=tags,
        rows=tuple(rows),
        records=records,
        rollouts=rollouts,
        groups=groups_of(rollouts, summary.questions),
        at={(row.record.uid, row.record.session): row.record for row in rows},
        rows_at={(row.record.uid, row.record.session): row for row in rows},
        continuations=continuations,
    )


def where(record: TrajectoryRecord) -> str:
    """`uid/session`, the name of a trajectory in a report."""
    return f"{record.uid}/{record.session}"


def close(traced: float, expected: float) -> bool:
    """Whether a number of the trace is the recomputed number."""
    return math.isclose(traced, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
