"""Faults of a disk and of a process, for tests of code that writes files.

    run, folder -> killed_at_each_write() -> one copy of the folder per write, in which `run` was killed there
    run, folder -> disk_full() -> the error of `run` when only so many more bytes fit

The faults happen in a forked child, at the level of system calls. A kill runs no `finally`, flushes no buffer and may
leave half of a write. A full disk first takes a part of a write, then answers ENOSPC. Only files that Python opens are
covered; of files that C code writes by itself (SQLite, Arrow), only renames and removals are.
"""

import _pyio
import builtins
import errno
import io
import os
import shutil
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

KILLED = 137  # the status of a process that SIGKILL ended, as a shell reports it
FAILED = 1

Run = Callable[[Path], object]


def killed_at_each_write(run: Run, folder: Path, scratch: Path, at_most: int = 200) -> Iterator[tuple[str, Path]]:
    """Copies of `folder`, each after a `run(copy)` that died at another write, rename, removal or new folder.

    Args:
        run: what writes; it must work on the folder that it is given.
        folder: the state before; it stays as it is.
        scratch: an empty place for the copies; each copy is removed when the next one is made.
        at_most: how many points to try; of more points an evenly spaced part is tried.

    Yields:
        Where the run died, and the copy as the next process finds it.
    """
    total = _counted(run, _fresh(folder, scratch))
    assert total > 0, f"{run} wrote nothing under the folder that it was given: nothing to test"
    points = [(number, half) for number in range(1, total + 1) for half in (False, True)]
    for number, half in points[:: max(1, -(-len(points) // at_most))]:
        copy = _fresh(folder, scratch)
        status, _ = _in_child(run, copy, _Faults(copy, kill_at=number, half=half))
        assert status == KILLED, f"{run} did not reach write {number} of {total}: it must write the same each time"
        yield f"killed {'in the middle of' if half else 'before'} write {number} of {total}", copy


def disk_full(run: Run, folder: Path, free_bytes: int) -> str | None:
    """Call `run(folder)` in a child on a disk with `free_bytes` left.

    Returns:
        The traceback of what it raised, None where everything fitted.
    """
    _, text = _in_child(run, folder, _Faults(folder, free_bytes=free_bytes))
    return text or None


class _Faults:
    """Counts the system calls that change `folder`; one of them kills the process, or the disk fills up."""

    def __init__(self, folder: Path, kill_at: int = 0, half: bool = False, free_bytes: int | None = None) -> None:
        self.root, self.kill_at, self.half, self.free_bytes = str(folder.resolve()), kill_at, half, free_bytes
        self.count = 0
        self._write, self._truncate = os.write, os.ftruncate

    def install(self) -> None:
        """Make all files that Python opens use `os.write`, and with it these faults."""
        builtins.open = io.open = _pyio.open  # type: ignore[assignment]
        os.write = self.write  # type: ignore[assignment]
        os.ftruncate = self.truncate  # type: ignore[assignment]
        for name in ("replace", "rename", "unlink", "remove", "mkdir", "link", "truncate"):
            setattr(os, name, self._guarded(getattr(os, name)))

    def write(self, descriptor: int, data: Any) -> int:
        if not self._is_inside(f"/proc/self/fd/{descriptor}"):
            return self._write(descriptor, data)
        content = bytes(data)
        if self._is_last():
            self._write(descriptor, content[: len(content) // 2])
            os._exit(KILLED)
        if self.free_bytes is None:
            return self._write(descriptor, content)
        if content and not self.free_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._write(descriptor, content[: self.free_bytes])
        self.free_bytes -= written
        return written

    def truncate(self, descriptor: int, length: int) -> None:
        if self._is_inside(f"/proc/self/fd/{descriptor}") and self._is_last():
            os._exit(KILLED)
        self._truncate(descriptor, length)

    def _guarded(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(path: Any, *arguments: Any, **options: Any) -> Any:
            if self._is_inside(path) and self._is_last():
                os._exit(KILLED)
            return call(path, *arguments, **options)

        return guarded

    def _is_inside(self, path: Any) -> bool:
        if isinstance(path, int):
            path = f"/proc/self/fd/{path}"
        target = os.path.realpath(os.fspath(path))
        return target == self.root or target.startswith(self.root + os.sep)

    def _is_last(self) -> bool:
        """Count this call. True: the process dies in the middle of it. If it dies before it, this ends the process."""
        self.count += 1
        if self.count == self.kill_at and not self.half:
            os._exit(KILLED)
        return self.count == self.kill_at


def _fresh(folder: Path, scratch: Path) -> Path:
    copy = scratch / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy, symlinks=True)
    return copy


def _counted(run: Run, copy: Path) -> int:
    def counting(folder: Path) -> object:
        run(folder)
        raise _Count(faults.count)

    faults = _Faults(copy)
    status, text = _in_child(counting, copy, faults)
    assert status == FAILED, text
    assert "_Count: " in text, f"{run} fails without any fault:\n{text}"
    return int(text.rsplit("_Count: ", 1)[1])


class _Count(Exception):
    """Carries the number of calls out of the child."""


def _in_child(run: Run, folder: Path, faults: _Faults) -> tuple[int, str]:
    """Exit status and traceback of `run(folder)` in a forked child with these faults."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        status = 0
        try:
            faults.install()
            run(folder)
        except BaseException:
            status = FAILED
            faults._write(writer, traceback.format_exc().encode())
        os._exit(status)
    os.close(writer)
    with open(reader, "rb") as pipe:
        text = pipe.read().decode()
    _, wait_status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(wait_status), text
