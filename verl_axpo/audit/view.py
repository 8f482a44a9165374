"""A step as the audit's rules want it: records and summary -> `View`, sorted by what the rules ask for."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from verl_axpo.core.types import Group, Kind
from verl_axpo.trace import StepSummary, TracedStep, TrajectoryRecord

TOLERANCE = 1e-6  # relative and absolute: a few units in the last place of the float32 that advantages are computed in


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A step as the checks want it."""

    summary: StepSummary
    records: tuple[TrajectoryRecord, ...]
    groups: tuple[Group, ...]  # one per question, in batch order; of fewer than N rollouts where a session failed
    at: dict[tuple[str, int], TrajectoryRecord]  # (uid, session) -> its row
    continuations: dict[tuple[str, int], list[TrajectoryRecord]]  # (uid, source session) -> its resampled rows


Found = tuple[str, str, str]  # where, expected, found
Check = Callable[[View], Iterator[Found]]


def view_of(step: TracedStep, summary: StepSummary) -> View:
    """Sort a step's rows by what the rules ask for."""
    rollouts = [record for record in step.records if record.kind is Kind.ROLLOUT]
    by_uid = {uid: tuple(one.as_rollout() for one in rollouts if one.uid == uid) for uid in summary.questions}
    continuations: dict[tuple[str, int], list[TrajectoryRecord]] = {}
    for record in step.records:
        if record.source_session is not None:
            continuations.setdefault((record.uid, record.source_session), []).append(record)
    return View(
        summary=summary,
        records=step.records,
        groups=tuple(Group(uid=uid, rollouts=group) for uid, group in by_uid.items()),
        at={(record.uid, record.session): record for record in step.records},
        continuations=continuations,
    )


def where(record: TrajectoryRecord) -> str:
    """`uid/session`, the name of a trajectory in a report."""
    return f"{record.uid}/{record.session}"


def close(found: float, expected: float) -> bool:
    """Whether a number of the trace is the recomputed one."""
    return math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
