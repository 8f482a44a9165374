"""Files of one JSON object per line: appended to, read back with what is damaged named, repaired after a kill.

append_line() -> rollouts.jsonl -> read_lines() -> (offset, line, record), or a sentence for a damaged line
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from verl_axpo.eval.folder import drop_report
from verl_axpo.eval.records import RecordT, bytes_hash, from_line
from verl_axpo.files import append_lines


def append_line(path: Path, line: bytes) -> int:
    """Append one line and flush it to the disk, any older report gone before; returns where it begins."""
    drop_report(path.parent)
    return append_lines(path, [line], flush=True)


def read_lines(path: Path, kind: type[RecordT], damaged: list[str]) -> Iterator[tuple[int, bytes, RecordT]]:
    """(offset, line, record) of every whole line; a sentence is added to `damaged` for each that is none of `kind`."""
    if not path.exists():
        return
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                record = from_line(kind, line)
            except ValueError as error:
                damaged.append(f"{path.name}, line {number}, is damaged and left out: {error}")
            else:
                yield offset, line, record
            offset += len(line)


def file_hash(path: Path) -> str | None:
    """Names what a small file holds; None if it is not there."""
    return bytes_hash(path.read_bytes()) if path.exists() else None


def repair(path: Path) -> int:
    """Cut a torn last line, which a killed run left; returns the bytes removed."""
    if not path.exists():
        return 0
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        keep = _end_of_last_line(file, size)
        if keep < size:
            file.truncate(keep)
    return size - keep


def _end_of_last_line(file: BinaryIO, size: int, block: int = 1 << 16) -> int:
    """Searched from the end: the file may have gigabytes."""
    end = size
    while end > 0:
        start = max(0, end - block)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
