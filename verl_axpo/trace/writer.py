"""Trajectories to disk without slowing the step: `write_step` -> one background thread -> lines, then the summary.

The trainer process owns the step files; rollout workers store images, whose names are their content's hash, so that
any number of workers may store the same one. A killed run leaves whole lines, at most one torn last line, and no
summary for the step it was in; the next run moves that step's files, and those of all later steps, to `superseded/`.
"""

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import orjson

from verl_axpo.files import append_lines, write_atomically
from verl_axpo.trace.reader import LOST_STEPS, list_steps, lost_steps, records_path, summary_path
from verl_axpo.trace.records import StepSummary, TrajectoryRecord


class TraceWriter:
    """Writes the steps of a run into `trace_dir`, in ascending order; a lower step than before starts over from there.

    A step is written next to the trainer's update. `flush` waits for it and raises its error: call it before anything
    says that the step is done, a checkpoint first of all. What is queued is written when the process exits.

    Example:
        with TraceWriter("outputs/run/trace") as trace:
            trace.write_step(records, summary)
    """

    def __init__(self, trace_dir: str | Path) -> None:
        self.trace_dir = Path(trace_dir)
        self.trace_dir.mkdir(parents=True, exist_ok=True)
        # The executor's threads are joined when the interpreter exits, so that a queued step is not lost
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="trace")
        self._writing: Future[None] | None = None

    def write_step(self, records: Sequence[TrajectoryRecord], summary: StepSummary) -> None:
        """Queue one step, all of its rows and its decisions; returns at once unless the step before is being written.

        Raises:
            ValueError: a record of another step than the summary's.
            OSError: the step before could not be written; this one is not queued.
        """
        strangers = sorted({record.step for record in records} - {summary.step})
        if strangers:
            raise ValueError(f"trace: got records of steps {strangers}, expected step {summary.step} as in the summary")
        self.flush()
        self._writing = self._thread.submit(self._write, tuple(records), summary)

    def begin_step(self, step: int) -> None:
        """Start or resume a run at `step`: what an earlier, killed run left of it and of later steps is moved aside.

        An earlier step without a summary will never get one; `lost_steps.jsonl` names it, so that the audit can say so.
        """
        self.flush()
        self._supersede(step)
        steps = list_steps(self.trace_dir)
        gone = set(range(steps[0], step)) - lost_steps(self.trace_dir) if steps else set()
        lost = [earlier for earlier in sorted(gone) if not summary_path(self.trace_dir, earlier).exists()]
        if lost:
            lines = (orjson.dumps({"resumed": step, "lost": earlier}) for earlier in lost)
            append_lines(self.trace_dir / LOST_STEPS, lines)

    def flush(self) -> None:
        """Wait until the queued step is on disk; raises its OSError if it is not."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """`flush`, then end the background thread."""
        try:
            self.flush()
        finally:
            self._thread.shutdown()

    def __enter__(self) -> "TraceWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, records: Sequence[TrajectoryRecord], summary: StepSummary) -> None:
        self._supersede(summary.step)
        append_lines(records_path(self.trace_dir, summary.step), (record.to_json() for record in records))
        complete = replace(summary, num_records=len(records))
        write_atomically(summary_path(self.trace_dir, summary.step), complete.to_json())

    def _supersede(self, step: int) -> None:
        for later in (there for there in list_steps(self.trace_dir) if there >= step):
            aside = self.trace_dir / "superseded"
            aside.mkdir(exist_ok=True)
            # The summary goes first: without it, what a crash leaves here is an incomplete step, not a wrong one
            for path in (summary_path(self.trace_dir, later), records_path(self.trace_dir, later)):
                if path.exists():
                    os.replace(path, aside / path.name)
