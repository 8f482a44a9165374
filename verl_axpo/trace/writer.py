"""Trajectories to disk without slowing the step: `write_step` -> one background thread -> lines, then the summary.

The trainer process owns the step files; rollout workers store images, whose names are their content's hash, so that
any number of workers may store the same one. A killed run leaves whole lines, at most one torn last line, and no
summary for the step it was in; the next run moves that step's files, and those of all later steps, to `superseded/`.
"""

import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import orjson
from PIL import Image

from verl_axpo.images import open_image, png
from verl_axpo.trace.reader import LOST_STEPS, list_steps, lost_steps, records_path, summary_path
from verl_axpo.trace.records import StepSummary, TrajectoryRecord

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
HASH_CHARACTERS = 32  # 128 bits of SHA-256: no collision among any number of images a run can make


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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, records: Sequence[TrajectoryRecord], summary: StepSummary) -> None:
        self._supersede(summary.step)
        append_lines(records_path(self.trace_dir, summary.step), (record.to_json() for record in records))
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


def append_lines(path: Path, lines: Iterable[bytes]) -> int:
    """Append whole lines, whatever an earlier writer left and whoever else appends at the same time.

    A killed writer tears at most the last line; here it is cut off, or ended where only its line end is missing. A full
    disk keeps the lines that it took as a whole.

    Args:
        lines: one JSON value each, without its line end; made one by one if they come from a generator.

    Returns:
        Where the first of them begins, in bytes.

    Raises:
        OSError: the disk took only some of the lines.
    """
    with _telling(path):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            with suppress(OSError):  # a file system without locks; a second writer is rare
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            begin = _mended_end(descriptor)
            _append(descriptor, lines)
            return begin
        finally:
            os.close(descriptor)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file: readers see all of it or none of it."""
    with _telling(path):
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.chmod(temporary, 0o644)  # mkstemp makes it private, unlike every other file of the trace
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """The disk's error with the name of the file, which a failed write does not give."""
    try:
        yield
    except OSError as error:
        full = error.errno in NO_SPACE
        if error.filename is not None and not full:
            raise
        hint = "; free some space, then run the same command again" if full else ""
        raise OSError(error.errno, f"{error.strerror}{hint}", str(path)) from error


def _append(descriptor: int, lines: Iterable[bytes]) -> None:
    """Each line whole, or not at all."""
    for line in lines:
        end, rest = os.lseek(descriptor, 0, os.SEEK_END), line + b"\n"
        try:
            while rest:  # a disk that is nearly full takes a part, and says why only when asked to take the rest
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            os.ftruncate(descriptor, end)
            raise


def _mended_end(descriptor: int) -> int:
    """The file's size once its last line is whole."""
    size = os.lseek(descriptor, 0, os.SEEK_END)
    torn = _torn_line(descriptor, size)
    if not torn:
        return size
    try:
        orjson.loads(torn)
    except ValueError:
        os.ftruncate(descriptor, size - len(torn))
    else:
        _append(descriptor, [b""])
    return os.lseek(descriptor, 0, os.SEEK_END)


def _torn_line(descriptor: int, size: int) -> bytes:
    """What follows the last line end; searched from the end, for the file may have gigabytes."""
    tail = b""
    while len(tail) < size and b"\n" not in tail:
        length = min(size, 2 * len(tail) + 1)
        tail = os.pread(descriptor, length, size - length)
    return tail[tail.rfind(b"\n") + 1 :]


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
