"""The trace read back: files of a step -> `TracedStep`, records and summary, with every defect of the files named."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from verl_axpo.trace.records import StepSummary, TrajectoryRecord

_STEP_FILE = re.compile(r"step_(\d{6,})\.(?:jsonl|summary\.json)")


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


def read_step(trace_dir: str | Path, step: int) -> TracedStep:
    """Everything that can be read of one step; what cannot is in `defects`.

    Raises:
        ValueError: the step has no files.
    """
    paths = records_path(trace_dir, step), summary_path(trace_dir, step)
    if not any(path.exists() for path in paths):
        steps = list_steps(trace_dir)
        known = f"{steps[0]} to {steps[-1]}" if steps else "none"
        raise ValueError(f"trace: got step {step}, which {trace_dir} does not have; steps there: {known}")
    records, defects = _read_records(paths[0])
    summary, more = read_summary(trace_dir, step)
    return TracedStep(
        step=step, records=records, summary=summary, complete=paths[1].exists(), defects=(*defects, *more)
    )


def iter_steps(trace_dir: str | Path) -> Iterator[TracedStep]:
    """All steps, ascending, one in memory at a time."""
    for step in list_steps(trace_dir):
        yield read_step(trace_dir, step)


def _read_records(path: Path) -> tuple[tuple[TrajectoryRecord, ...], list[str]]:
    if not path.exists():
        return (), [f"{path.name} is missing"]
    records, defects = [], []
    content = path.read_bytes()
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line:
            continue
        try:
            records.append(TrajectoryRecord.from_json(line))
        except (ValueError, TypeError, IndexError) as error:
            defects.append(f"{path.name} line {number} is no trajectory: {error}")
    if content and not content.endswith(b"\n"):
        defects.append(f"{path.name} ends in the middle of a line: the writer was killed")
    return tuple(records), defects


def read_summary(trace_dir: str | Path, step: int) -> tuple[StepSummary | None, list[str]]:
    """The step's decisions alone, much smaller than its trajectories; None, and perhaps why, if it has none."""
    path = summary_path(trace_dir, step)
    if not path.exists():
        return None, []
    try:
        return StepSummary.from_json(path.read_bytes()), []
    except (ValueError, TypeError) as error:
        return None, [f"{path.name} is no summary: {error}"]
