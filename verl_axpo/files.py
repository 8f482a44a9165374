"""Files that survive a kill, a full disk and a second writer. The one place where lines of JSON are written and read.

    lines   -> append_lines() -> FILE.jsonl -> read_lines() -> Line(number, offset, data, value)
    content -> write_atomically(), write_lines(), replacing() -> a file that is there as a whole, or not at all
    name from a hub, an archive or a row -> inside() -> a path that stays in its folder

A line ends with a newline byte and nothing else: a text in it may hold any of Unicode's line ends. A killed writer
tears at most the last line of a file. Readers skip it, and the next writer removes it.
"""

import errno
import fcntl
import hashlib
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import orjson

T = TypeVar("T")

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
FREE_SOME = "; free some space, then run the same command again"
CHUNK_BYTES = 1 << 20
_LEADS_OUT = re.compile(r"[/\\]|[A-Za-z]:|(.*[/\\])?\.\.([/\\]|$)|.*\0|[./\\]*$", re.DOTALL)
_BROKEN = (ValueError, TypeError, KeyError, RecursionError)  # what parsing a damaged line raises


@dataclass(frozen=True, slots=True)
class Line(Generic[T]):
    """A whole line of a file.

    number: from 1. offset: bytes before it. data: its bytes without the newline. value: what `parse` made of them.
    """

    number: int
    offset: int
    data: bytes
    value: T


def read_lines(
    path: Path, parse: Callable[[bytes], T], damaged: list[str] | None = None, *, at_once: bool = False
) -> Iterator[Line[T]]:
    """The whole lines of a file, one in memory at a time. Empty lines and a torn last line are skipped.

    A last line of which only the line end is missing is whole, as it is for `append_lines`.

    Args:
        parse: makes the value of a line (`orjson.loads`), or raises ValueError, TypeError or KeyError.
        damaged: gets a sentence for each line that cannot be read, and reading goes on.
        at_once: nobody appends to the file any more, so that a torn last line means that more is missing.

    Raises:
        ValueError: a line that cannot be parsed, without `damaged`, or a torn last line of a file that was written
            `at_once`; names the file and the line.
        FileNotFoundError: no such file.
    """

    def refuse(number: int, why: str) -> None:
        if damaged is None:
            raise ValueError(f"{path} line {number}: {why}")
        damaged.append(f"{path.name} line {number} is damaged and left out: {why}")

    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                if at_once:
                    refuse(number, "ends in the middle, the file is cut short")
                    return
                with suppress(*_BROKEN):
                    yield Line(number, offset, line, parse(line))
                return
            begin, data = offset, line[:-1]
            offset += len(line)
            if not data.strip():
                continue
            try:
                value = parse(data)
            except _BROKEN as error:
                refuse(number, str(error))
            else:
                yield Line(number, begin, data, value)


def append_lines(path: Path, lines: Iterable[bytes], *, flush: bool = False) -> int:
    """Append whole lines, whatever an earlier writer left and whoever else appends at the same time.

    An earlier torn line is removed, or ended where only its line end is missing. A full disk keeps the lines that it
    took as a whole.

    Args:
        lines: one JSON value each, without its line end; made one by one if they come from a generator.
        flush: wait until the lines are on the disk, so that a power failure does not lose them.

    Returns:
        Where the first of them begins, in bytes.

    Raises:
        OSError: the disk took only some of the lines.
    """
    with naming(path):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            with suppress(OSError):  # a file system without locks; a second writer is rare
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            begin = _mended_end(descriptor)
            _append(descriptor, lines)
            if flush:
                os.fsync(descriptor)
            return begin
        finally:
            os.close(descriptor)


def mend_end(path: Path) -> None:
    """Remove a torn last line, or end it where only its line end is missing. A file that is not there stays away."""
    if path.exists():
        append_lines(path, ())


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
    """The file's size in bytes once its last line is whole."""
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


@contextmanager
def replacing(path: Path, flush: bool = True) -> Iterator[Path]:
    """A place to write the next `path` to; it becomes `path` when the block ends without an error.

    A killed writer leaves the old file, or none, and a `.<name>.*.unfinished` next to it.

    Args:
        path: the file; its folder is made.
        flush: wait until the content is on the disk, so that a power failure does not leave an empty file under the
            name. Without it only for what is verified when it is read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.unfinished")
    try:
        with naming(path):
            yield unfinished
            if flush:
                with unfinished.open("rb") as file:
                    os.fsync(file.fileno())
            os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes, *, flush: bool = False) -> None:
    """Write a whole file: readers see all of it or none of it. For `flush` see `replacing`."""
    with replacing(path, flush) as unfinished:
        unfinished.write_bytes(content)


def write_lines(path: Path, lines: Iterable[bytes]) -> int:
    """Write lines (without their line ends) as one file, whole or not at all; returns how many there were."""
    count = 0
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        for line in lines:
            file.write(line + b"\n")
            count += 1
    return count


def remove_unfinished(folder: Path) -> None:
    """Remove what killed writers left in a folder that only this process writes to."""
    for path in folder.glob(".*.unfinished"):
        path.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Raise the disk's errors with the name of the file, which a failed write does not give."""
    try:
        yield
    except OSError as error:
        full = error.errno in NO_SPACE and FREE_SOME not in str(error)
        if error.errno is None or (error.filename is not None and not full):
            raise
        raise OSError(error.errno, f"{error.strerror}{FREE_SOME if full else ''}", str(path)) from error


def inside(root: Path, name: str, *others: Path) -> Path:
    """The place of `name` in `root`: names come from hubs, archives and rows, and may be `../../.ssh/id_rsa`.

    Raises:
        ValueError: an absolute path, one with `..` or a drive, or one that a link leads out of `root` to a place that
            is not in `others` either.
    """
    if _LEADS_OUT.match(name):
        raise ValueError(f"got path {name!r}, expected one inside {root}")
    path = root / name
    if not any(path.resolve().is_relative_to(folder.resolve()) for folder in (root, *others)):
        raise ValueError(f"got path {name!r}, a link that leads out of {root}; put a copy in place of the link")
    return path


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
