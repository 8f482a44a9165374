"""What a cell writes to file descriptors 1 and 2, from Python or from C, without ever holding more than a bounded part.

cell -> descriptors 1, 2 -> two unlinked files in the scratch space -> collect() -> (stdout, stderr), shortened
"""

import contextlib
import errno
import io
import os
import secrets
import sys
import threading
from collections.abc import Mapping

from . import confine, frames


class Output:
    """Standard output and error of the worker.

    Args:
        scratch: folder that holds the two files; its size limit is the limit of what can be written.
        limits: `output_bytes`, of each stream, that are handed on; `scratch_mb`.
    """

    def __init__(self, scratch: str, limits: Mapping[str, int]) -> None:
        self.limit = limits["output_bytes"]
        self.scratch = scratch
        self.full = f"too much output: it is kept in the scratch space, which has {limits['scratch_mb']} MB"
        self.files = [_unlinked_file(scratch) for _ in range(2)]
        self.streams = [_Stream(at + 1, self.full) for at in range(2)]

    def begin(self) -> None:
        """Make both streams empty and usable again, whatever the cell before did to them."""
        if len(sys._current_frames()) > 1:
            self._leave_other_threads_behind()
        for at, file in enumerate(self.files):
            os.ftruncate(file, 0)
            os.dup2(file, at + 1)
            if not self.streams[at].usable():
                self.streams[at] = _Stream(at + 1, self.full)
        self._hear_only_this_thread()
        sys.stdout, sys.stderr = self.streams

    def collect(self) -> tuple[str, str]:
        """What the cell wrote to standard output and error."""
        self._hear_only_this_thread()
        return self._collect(0), self._collect(1)

    def _collect(self, at: int) -> str:
        file, stream = self.files[at], self.streams[at]
        try:
            if stream.usable():
                stream.flush()
            return _read_ends(file, self.limit)
        except OSError:  # the scratch space is full, or the cell closed the descriptor
            text = _read_ends(file, self.limit)
            os.dup2(file, at + 1)
            os.ftruncate(file, 0)
            with contextlib.suppress(OSError):
                stream.flush()  # into the emptied file, or it would turn up in the next cell
            return text

    def _leave_other_threads_behind(self) -> None:
        """Threads of earlier cells keep their descriptors 1 and 2, and with them the files of those cells."""
        with contextlib.suppress(OSError):  # the scratch space is full; then the old files stay
            files = [_unlinked_file(self.scratch) for _ in range(2)]
            confine.own_descriptors()
            for file in self.files:
                os.close(file)
            self.files = files

    def _hear_only_this_thread(self) -> None:
        """Ignore what other threads write, but for those that this thread starts from now on."""
        others = frozenset(sys._current_frames()) - {threading.get_ident()}
        for stream in self.streams:
            stream.unheard = others


class _Stream(io.TextIOWrapper):
    """Text to a descriptor; threads that an earlier cell left behind are not heard."""

    unheard: frozenset[int] = frozenset()

    def __init__(self, descriptor: int, full: str) -> None:
        self.full = full  # what is said when the file is
        raw = io.FileIO(descriptor, "w", closefd=False)
        super().__init__(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace")

    def usable(self) -> bool:
        """Neither closed nor detached."""
        try:
            return not self.closed
        except ValueError:
            return False

    def write(self, text: str, /) -> int:
        if threading.get_ident() in self.unheard:
            return len(text)
        try:
            return super().write(text)
        except OSError as error:
            raise self._explained(error) from None

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise self._explained(error) from None

    def _explained(self, error: OSError) -> OSError:
        return OSError(self.full) if error.errno in (errno.EFBIG, errno.ENOSPC) else error


def _unlinked_file(folder: str) -> int:
    path = os.path.join(folder, f".output-{secrets.token_hex(8)}")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    os.unlink(path)
    return descriptor


def _read_ends(file: int, limit: int) -> str:
    total = os.fstat(file).st_size
    if total <= limit:
        data = os.pread(file, limit, 0)
    else:
        half = limit // 2
        data = frames.join(os.pread(file, half, 0), os.pread(file, half, total - half), total)
    return data.decode("utf-8", errors="replace")
