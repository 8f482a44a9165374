"""Answers on disk, keyed by the whole request and shared by all processes of a machine.

    request -> request_key() -> AnswerCache.get() -> hits
                     |_ lock(): one process asks the engine, the others wait and read its answer
    folder  -> AnswerCache.content_hash() -> what a report names

Answers are JSON files (`verl_axpo.json_files`), so that a cache that somebody else recorded can be opened; an entry of
another shape, or of another request, is a miss. Nothing is ever removed, so that a recording stays whole.
File locks do not hold on network file systems: one folder, one machine.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import AsyncFileLock

from verl_axpo.json_files import JsonFiles, refuse
from verl_axpo.tools.search.hits import Hit

Request = Mapping[str, Any]
LOCKS = 4096  # lock files; two requests that share one only wait for each other


def request_key(request: Request) -> str:
    """Hexadecimal SHA-256 of the request's canonical JSON."""
    return hashlib.sha256(_canonical(request).encode()).hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


class AnswerCache:
    """The answers in `folder`; safe to use from threads and processes at once.

    Raises:
        OSError: from every method, when the disk fails.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._locks = folder / "locks"
        self._locks.mkdir(parents=True, exist_ok=True)
        self._files = JsonFiles(folder / "answers")

    def get(self, key: str, *, max_age_s: float | None = None) -> list[Hit] | None:
        """The hits stored under `key`; None if there are none, or if they are older than `max_age_s` seconds."""
        answer = self._answer(key)
        if answer is None or (max_age_s is not None and time.time() - answer[1] > max_age_s):
            return None
        return answer[0]

    def _answer(self, key: str) -> tuple[list[Hit], float] | None:
        """Hits and the time they were stored at (seconds since 1970)."""
        entry = self._files.get(key)
        match entry:
            case None:
                return None
            case {"request": dict(request), "hits": list(hits), "stored": float(stored)} if request_key(request) == key:
                try:
                    return [Hit.from_json(hit) for hit in hits], stored
                except ValueError as error:
                    refuse(key, str(error))
            case _:
                refuse(key, f"{str(entry)[:80]!r} is no answer to the request it is filed under")
        return None

    def put(self, key: str, request: Request, hits: Sequence[Hit]) -> None:
        """Store an answer, with its request for whoever reads the cache, in place of an older one."""
        self._files.put(key, {"request": dict(request), "hits": [*map(asdict, hits)], "stored": time.time()})

    def lock(self, key: str) -> AsyncFileLock:
        """The lock to hold while `key` is asked for; it is freed if the process dies."""
        path = self._locks / f"{int(key, 16) % LOCKS:03x}"
        # Inline: an acquisition in a thread could succeed after its caller was cancelled, and would never be released
        return AsyncFileLock(path, run_in_executor=False)

    def content_hash(self) -> str:
        """SHA-256 over all requests and answers, whatever the order and time in which they were stored."""
        total = hashlib.sha256()
        for key in self._files:
            if (answer := self._answer(key)) is not None:
                total.update(f"{key} {_canonical([*map(asdict, answer[0])])}\n".encode())
        return total.hexdigest()

    def __len__(self) -> int:
        return len(self._files)


def content_hash(folder: str | Path) -> str:
    """`AnswerCache.content_hash` of a folder, for reports.

    Raises:
        ValueError: no cache there.
    """
    if not (Path(folder) / "answers").is_dir():
        raise ValueError(f"search cache: got {str(folder)!r}, which holds no answers; expected a recorded cache_dir")
    return AnswerCache(Path(folder)).content_hash()
