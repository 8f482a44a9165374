"""Files that are whole or not there, and what they hash to.

with replacing(path) as unfinished: write it -> flushed to the disk -> renamed to path
path -> sha256_of() -> hex
"""

import hashlib
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

CHUNK_BYTES = 1 << 20
_LEADS_OUT = re.compile(r"[/\\]|[A-Za-z]:|(.*[/\\])?\.\.([/\\]|$)|.*\0|[./\\]*$", re.DOTALL)


@contextmanager
def replacing(path: Path, flush: bool = True) -> Iterator[Path]:
    """A place to write the next `path` to; it becomes `path` when the block ends without an error.

    A killed writer leaves the old file, or none, and a `.<name>.*.unfinished` beside it.

    Args:
        path: the file; its folder is made.
        flush: wait until the content is on the disk, so that a power failure does not leave an empty file under the
            name. Without it only for what is verified when it is read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.unfinished")
    try:
        yield unfinished
        if flush:
            with unfinished.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed writers left in a folder that only this process writes to."""
    for path in folder.glob(".*.unfinished"):
        path.unlink(missing_ok=True)


def inside(root: Path, name: str) -> Path:
    """The place of `name` below `root`: names come from hubs, archives and rows, and may be `../../.ssh/id_rsa`.

    Raises:
        ValueError: an absolute path, one with `..` or a drive, or one that a link leads out of `root`.
    """
    if _LEADS_OUT.match(name):
        raise ValueError(f"got path {name!r}, expected one inside {root}")
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"got path {name!r}, a link that leads out of {root}; put a copy in place of the link")
    return path


def write_lines(path: Path, lines: Iterable[bytes]) -> int:
    """Write lines (without their newline) as one file, whole or not at all; returns how many there were."""
    count = 0
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        for line in lines:
            file.write(line + b"\n")
            count += 1
    return count


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
