"""Answers that were paid for, kept on disk between runs: one JSON file each, in a folder that may come from elsewhere.

    key -> get() -> the value, or None: nothing there, or nothing that can be used
        -> put() -> folder/ab/abcdef....json, whole or not at all

A file is only ever parsed as JSON, and never run or unpickled. A damaged file costs itself only: it is a miss, the log
names it, and the next `put` replaces it. Threads and processes may use a folder at once.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from verl_axpo.files import write_atomically

logger = logging.getLogger(__name__)
MAX_BYTES = 2**25  # of a file; several times the largest answer that any engine or judge may give


class JsonFiles:
    """The values in `folder`, by keys that are hexadecimal hashes. Every method raises OSError when the disk fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"

    def get(self, key: str) -> Any:
        """The value of `key`; None where there is none."""
        path = self._path(key)
        if not path.is_file():  # never a pipe, which would be waited for
            return None
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES} bytes")
            return json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            refuse(path, str(error))
            return None

    def put(self, key: str, value: Any) -> None:
        """Store `value` in place of an older one; who reads meanwhile sees one of the two."""
        write_atomically(self._path(key), json.dumps(value).encode())

    def __iter__(self) -> Iterator[str]:
        """The keys of all files, readable or not, in order."""
        return (path.stem for path in sorted(self.folder.glob("[0-9a-f][0-9a-f]/*.json")))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def refuse(path: Path | str, problem: str) -> None:
    """Say that an entry is not used, and why."""
    logger.warning("cache entry %s is not used (%s); it is asked for again", path, problem)
