"""One restored subgroup in words, for the report: the failed call, its continuations, what they got."""

import base64
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from verl_axpo.core.types import Kind
from verl_axpo.trace import TrajectoryRecord, iter_steps

MOST_CHARACTERS = 300  # of a question in the report


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One trajectory of the example."""

    role: str
    call: str
    reward: float
    advantage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A question whose tool-using subgroup was all wrong until a continuation got it right."""

    step: int
    question: str
    ground_truth: str
    lines: Sequence[Line]
    picture: str  # relative to the report; "" without
    data: str  # base64


def count_restored(trace_dir: Path) -> tuple[int, int]:
    """(resampled questions, those of them that a continuation restored), over all steps."""
    resampled, restored = set(), set()
    for step in iter_steps(trace_dir, tokens=False):
        for record in step.records:
            if record.selected:
                resampled.add((step.step, record.uid))
            if record.recovery == 1:
                restored.add((step.step, record.uid))
    return len(resampled), len(restored)


def find_example(trace_dir: Path, picture: Path) -> Example | None:
    """The last restored subgroup of the trace, its first image copied to `picture`; None if there is none."""
    chosen: tuple[TrajectoryRecord, list[TrajectoryRecord]] | None = None
    for step in iter_steps(trace_dir, tokens=False):
        for source in (record for record in step.records if record.recovery == 1):
            chosen = source, [one for one in step.records if _continues(one, source)]
    if chosen is None:
        return None
    source, continuations = chosen
    data = _copy(trace_dir, source, picture)
    return Example(
        step=source.step,
        question=source.question[:MOST_CHARACTERS],
        ground_truth=str(source.ground_truth),
        lines=[_line(source, "source"), *(_line(one, f"continuation {k}") for k, one in enumerate(continuations, 1))],
        picture=f"plots/{picture.name}" if data else "",
        data=data,
    )


def _continues(record: TrajectoryRecord, source: TrajectoryRecord) -> bool:
    return record.kind is Kind.RESAMPLE and (record.uid, record.source_session) == (source.uid, source.session)


def _line(record: TrajectoryRecord, role: str) -> Line:
    return Line(role=role, call=first_call(record), reward=record.reward, advantage=record.advantage)


def first_call(record: TrajectoryRecord) -> str:
    """`name(arguments)` of the first tool call; "" without one."""
    if not record.tool_calls:
        return ""
    call = record.tool_calls[0]
    arguments = call.arguments
    words = (
        ", ".join(f"{key}={value}" for key, value in arguments.items()) if isinstance(arguments, dict) else arguments
    )
    return f"{call.name}({words})"


def _copy(trace_dir: Path, record: TrajectoryRecord, picture: Path) -> str:
    paths = [(trace_dir / image).resolve() for image in record.images]
    # A trace may come from somebody else: what a row names is copied into the report only from its own folder
    stored = [path for path in paths if path.is_file() and path.is_relative_to(trace_dir.resolve())]
    if not stored:
        return ""
    shutil.copyfile(stored[0], picture)
    return base64.b64encode(picture.read_bytes()).decode()
