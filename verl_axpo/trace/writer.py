"""Trajectories to disk without slowing the step: `write_step` -> one background thread -> lines, then the summary.

The trainer process owns the step files; rollout workers store images, whose names are their content's hash, so that
any number of workers may store the same one. A killed run leaves whole lines, at most one torn last line, and no
summary for the step it was in; the next run moves that step's files, and those of all later steps, to `superseded/`.
"""

import hashlib
import os
import tempfile
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from PIL import Image

from verl_axpo.images import open_image, png
from verl_axpo.trace.reader import list_steps, records_path, summary_path
from verl_axpo.trace.records import StepSummary, TrajectoryRecord

PENDING_STEPS = 2  # steps that may wait in memory; beyond that a slow disk slows the trainer instead of filling memory
HASH_CHARACTERS = 32  # 128 bits of SHA-256: no collision among any number of images a run can make


class TraceWriter:
    """Writes the steps of a run into `trace_dir`, in ascending order; a lower step than before starts over from there.

    The step's files are complete after `flush` or `close`, and at the latest when the process exits. An error of the
    disk is raised by the next call.

    Example:
        with TraceWriter("outputs/run/trace") as trace:
            trace.write_step(records, summary)
    """

    def __init__(self, trace_dir: str | Path) -> None:
        self.trace_dir = Path(trace_dir)
        self.trace_dir.mkdir(parents=True, exist_ok=True)
        # The executor's threads are joined when the interpreter exits, so that queued steps are not lost
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="trace")
        self._pending: deque[Future[None]] = deque()

    def write_step(self, records: Sequence[TrajectoryRecord], summary: StepSummary) -> None:
        """Queue one step, all of its rows and its decisions; returns at once unless `PENDING_STEPS` steps wait.

        Raises:
            ValueError: a record of another step than the summary's.
            OSError: an earlier step could not be written.
        """
        strangers = sorted({record.step for record in records} - {summary.step})
        if strangers:
            raise ValueError(f"trace: got records of steps {strangers}, expected step {summary.step} as in the summary")
        while len(self._pending) >= PENDING_STEPS:
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(self._write, tuple(records), summary))

    def begin_step(self, step: int) -> None:
        """Move the files of `step` and of all later steps to `superseded/`: an earlier, killed run left them.

        `write_step` does this itself; call it at start-up to clear what lies after the checkpoint that a run resumes.
        """
        self.flush()
        self._supersede(step)

    def flush(self) -> None:
        """Wait until every queued step is on disk; raises the OSError of one that is not."""
        while self._pending:
            self._pending.popleft().result()

    def close(self) -> None:
        """`flush`, then end the background thread."""
        try:
            self.flush()
        finally:
            self._thread.shutdown()

    def __enter__(self) -> "TraceWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, records: Sequence[TrajectoryRecord], summary: StepSummary) -> None:
        self._supersede(summary.step)
        append_lines(records_path(self.trace_dir, summary.step), [record.to_json() for record in records])
        complete = replace(summary, num_records=len(records))
        write_atomically(summary_path(self.trace_dir, summary.step), complete.to_json())

    def _supersede(self, step: int) -> None:
        for later in (one for one in list_steps(self.trace_dir) if one >= step):
            aside = self.trace_dir / "superseded"
            aside.mkdir(exist_ok=True)
            # The summary goes first: without it, what a crash leaves here is an incomplete step, not a wrong one
            for path in (summary_path(self.trace_dir, later), records_path(self.trace_dir, later)):
                if path.exists():
                    os.replace(path, aside / path.name)


def append_lines(path: Path, lines: Sequence[bytes]) -> None:
    """Append each line with one write, so that a killed writer tears at most the last one.

    Raises:
        OSError: the disk took only part of a line.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        for line in lines:
            if os.write(descriptor, line + b"\n") != len(line) + 1:
                raise OSError(f"{path}: the disk took only part of a line; free some space")
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file: readers see all of it or none of it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)  # mkstemp makes it private, unlike every other file of the trace
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def store_image(trace_dir: str | Path, image: Image.Image) -> str:
    """Store an image once, under the hash of its pixels, as PNG; callable from any process.

    Encoding takes milliseconds to tenths of a second: from a coroutine call it through `asyncio.to_thread`.

    Returns:
        Its path relative to `trace_dir`, as `TrajectoryRecord.images` wants it.
    """
    picture = open_image(image)
    digest = hashlib.sha256(f"{picture.mode} {picture.size} ".encode() + picture.tobytes()).hexdigest()
    relative = f"images/{digest[:HASH_CHARACTERS]}.png"
    path = Path(trace_dir) / relative
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, png(picture))
    return relative
