"""Where each row of a step begins, with the little that lists need: a step is read once, and kept so next to the trace.

step_000007.jsonl -> step_index() -> StepIndex -> view/step_000007.json
StepIndex + uid   -> rows() -> that question's records, tokens included; no other bytes are read
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from verl_axpo.files import read_lines, write_atomically
from verl_axpo.trace import TrajectoryRecord
from verl_axpo.trace.reader import records_path, summary_path, without_tokens

FOLDER = "view"  # in the trace's folder; may be removed at any time
TEXT_CHARACTERS = 160  # of a question, in a list
VERSION = 3  # of what an index holds


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One trajectory in a list. `offset`, `length`: its line in the step's file, in bytes."""

    offset: int
    length: int
    uid: str
    session: int
    source: int | None
    selected: bool
    status: str
    reward: float
    recovery: int | None
    uses_tool: bool


class StepIndex(msgspec.Struct, frozen=True, kw_only=True):
    """A step's rows in the order of its file, and what they were made of and by.

    `state`: the index's version, the file's size (bytes) and time (nanoseconds), and whether the step's summary was
    there: only then is a torn line a defect.
    """

    state: tuple[int, int, int, bool]
    rows: list[Row]
    questions: dict[str, tuple[str, str]]  # uid -> the beginning of its text, its ground truth
    defects: list[str]


def step_index(trace_dir: Path, step: int) -> StepIndex:
    """The index of a step, from its file if that is of the step's present state.

    Raises:
        FileNotFoundError: the step has no trajectories.
    """
    file = records_path(trace_dir, step).stat()
    state = VERSION, file.st_size, file.st_mtime_ns, summary_path(trace_dir, step).exists()
    kept = trace_dir / FOLDER / f"step_{step:06d}.json"
    with suppress(OSError, msgspec.DecodeError):
        index = msgspec.json.decode(kept.read_bytes(), type=StepIndex)
        if index.state == state:
            return index
    index = _built(trace_dir, step, state)
    with suppress(OSError):  # a trace on a read-only or full disk can be looked at all the same
        write_atomically(kept, msgspec.json.encode(index))
    return index


def rows(
    trace_dir: Path, step: int, index: StepIndex, uid: str, session: int | None = None
) -> Iterator[TrajectoryRecord]:
    """The records of a question, or of one of its trajectories, with their tokens."""
    with records_path(trace_dir, step).open("rb") as file:
        for row in index.rows:
            if row.uid == uid and session in (None, row.session):
                file.seek(row.offset)
                yield TrajectoryRecord.from_json(file.read(row.length))


def _built(trace_dir: Path, step: int, state: tuple[int, int, int, bool]) -> StepIndex:
    defects: list[str] = []
    lines = read_lines(
        records_path(trace_dir, step),
        lambda line: TrajectoryRecord.from_json(without_tokens(line)),
        defects,
        at_once=state[-1],
    )
    found: list[Row] = []
    questions: dict[str, tuple[str, str]] = {}
    for line in lines:
        record = line.value
        found.append(_row(record, line.offset, len(line.data)))
        if record.uid not in questions:
            text = " ".join(record.question.split())[:TEXT_CHARACTERS]
            questions[record.uid] = text, str(record.ground_truth)[:TEXT_CHARACTERS]
    return StepIndex(state=state, rows=found, questions=questions, defects=defects)


def _row(record: TrajectoryRecord, offset: int, length: int) -> Row:
    return Row(
        offset=offset,
        length=length,
        uid=record.uid,
        session=record.session,
        source=record.source_session,
        selected=record.selected,
        status=record.status.value,
        reward=record.reward,
        recovery=record.recovery,
        uses_tool=record.uses_tool,
    )
