"""The trace read back: files of a step -> `TracedStep`, records and summary, with every defect of the files named."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import orjson

from verl_axpo.files import read_lines
from verl_axpo.trace.records import StepSummary, TrajectoryRecord

LOST_STEPS = "lost_steps.jsonl"  # {"resumed": 3, "lost": 2} per step that a resumed run found without its trace

TOKEN_FIELDS = ("response_ids", "response_mask", "logprobs", "entropies")  # nearly all of a line's bytes
_TOKEN_ARRAY = re.compile(f'"(?:{"|".join(TOKEN_FIELDS)})":\\s*\\['.encode())
_STEP_FILE = re.compile(r"step_(\d{6,})\.(?:jsonl|summary\.json)")


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedQuestion:
    """A question of a step: its trajectories, in the order of the file."""

    uid: str
    records: tuple[TrajectoryRecord, ...]

    @property
    def text(self) -> str:
        """The question in one line."""
        return " ".join(self.records[0].question.split())

    @property
    def rollouts(self) -> list[TrajectoryRecord]:
        """The ordinary rollouts."""
        return [record for record in self.records if record.source_session is None]

    @property
    def sources(self) -> list[TrajectoryRecord]:
        """The rollouts whose prefix was resampled."""
        return [record for record in self.rollouts if record.selected]

    @property
    def restored(self) -> bool:
        """Whether a continuation of any source is correct."""
        return any(record.recovery == 1 for record in self.sources)

    @property
    def images(self) -> list[str]:
        """The question's own: a row has them first, and those of its tools after them."""
        without_calls = [record.images for record in self.records if not record.tool_calls]
        lists = without_calls or [record.images for record in self.records]
        return [same[0] for same in takewhile(lambda names: len(set(names)) == 1, zip(*lists, strict=False))]

    def continuations(self, session: int) -> list[TrajectoryRecord]:
        """Those of the prefix of one rollout."""
        return [record for record in self.records if record.source_session == session]


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedStep:
    """One step as it lies on disk. `summary` is None for a step that a killed run did not finish.

    `defects` says, one sentence each, what could not be read. Without a summary file the step is incomplete.
    """

    step: int
    records: tuple[TrajectoryRecord, ...]
    summary: StepSummary | None
    complete: bool  # the summary, written last, is there, readable or not
    defects: tuple[str, ...]

    def questions(self) -> list[TracedQuestion]:
        """In order of first appearance."""
        return questions_of(self.records)


def questions_of(records: Iterable[TrajectoryRecord]) -> list[TracedQuestion]:
    """The questions of these trajectories, in order of first appearance."""
    by_uid: dict[str, list[TrajectoryRecord]] = {}
    for record in records:
        by_uid.setdefault(record.uid, []).append(record)
    return [TracedQuestion(uid=uid, records=tuple(group)) for uid, group in by_uid.items()]


def records_path(trace_dir: str | Path, step: int) -> Path:
    """Where a step's trajectories are: one JSON object per line."""
    return Path(trace_dir) / f"step_{step:06d}.jsonl"


def summary_path(trace_dir: str | Path, step: int) -> Path:
    """Where a step's decisions and metrics are."""
    return Path(trace_dir) / f"step_{step:06d}.summary.json"


def list_steps(trace_dir: str | Path) -> list[int]:
    """The steps that have any file in `trace_dir`, ascending.

    Raises:
        ValueError: there is no such folder.
    """
    folder = Path(trace_dir)
    if not folder.is_dir():
        raise ValueError(
            f"trace: got {folder}, expected a folder with step_*.jsonl files; give the folder of a run's trace"
        )
    matches = (_STEP_FILE.fullmatch(path.name) for path in folder.iterdir())
    return sorted({int(match[1]) for match in matches if match})


def read_step(trace_dir: str | Path, step: int, *, tokens: bool = True) -> TracedStep:
    """Everything that can be read of one step; what cannot is in `defects`. All rows are in memory at once.

    Args:
        tokens: False leaves the token arrays empty, which reads a step of real size ten times as fast.

    Raises:
        ValueError: the step has no files.
    """
    paths = records_path(trace_dir, step), summary_path(trace_dir, step)
    if not any(path.exists() for path in paths):
        steps = list_steps(trace_dir)
        there = f"{steps[0]} to {steps[-1]}" if steps else "none"
        raise ValueError(f"trace: got step {step}, which {trace_dir} does not have; steps there: {there}")
    defects: list[str] = []
    records = tuple(iter_records(trace_dir, step, defects, tokens=tokens))
    summary, more = read_summary(trace_dir, step)
    return TracedStep(
        step=step, records=records, summary=summary, complete=paths[1].exists(), defects=(*defects, *more)
    )


def iter_steps(trace_dir: str | Path, *, tokens: bool = True) -> Iterator[TracedStep]:
    """All steps, ascending, one in memory at a time; `tokens` as for `read_step`."""
    for step in list_steps(trace_dir):
        yield read_step(trace_dir, step, tokens=tokens)


def iter_records(
    trace_dir: str | Path, step: int, defects: list[str], *, tokens: bool = True
) -> Iterator[TrajectoryRecord]:
    """A step's trajectories, one in memory at a time; what cannot be read is skipped and said in `defects`."""
    path = records_path(trace_dir, step)
    if not path.exists():
        defects.append(f"{path.name} is missing")
        return

    def parse(line: bytes) -> TrajectoryRecord:
        return TrajectoryRecord.from_json(line if tokens else without_tokens(line))

    yield from (line.value for line in read_lines(path, parse, defects, at_once=True))


def without_tokens(line: bytes) -> bytes:
    """A record's line with empty token arrays: a tenth of it, and found without parsing the rest.

    In JSON a quote and a colon follow each other at a key only, and an array of numbers ends at the first bracket.
    """
    pieces, at = [], 0
    while match := _TOKEN_ARRAY.search(line, at):
        pieces.append(line[at : match.end()])
        at = max(line.find(b"]", match.end()), match.end())
    return b"".join([*pieces, line[at:]])


def read_summary(trace_dir: str | Path, step: int) -> tuple[StepSummary | None, list[str]]:
    """The step's decisions alone, much smaller than its trajectories; None, and perhaps why, if it has none."""
    path = summary_path(trace_dir, step)
    if not path.exists():
        return None, []
    try:
        return StepSummary.from_json(path.read_bytes()), []
    except (ValueError, TypeError) as error:
        return None, [f"{path.name} is no summary: {error}"]


def lost_steps(trace_dir: str | Path) -> set[int]:
    """Steps whose trace a killed run did not finish although a checkpoint of them was there to resume from."""
    path = Path(trace_dir) / LOST_STEPS
    return {int(line.value["lost"]) for line in read_lines(path, orjson.loads)} if path.exists() else set()
