"""Answers on disk, keyed by the whole request and shared by all processes of a machine.

    request -> request_key() -> AnswerCache.get() -> hits
                     |_ lock(): one process asks the engine, the others wait and read its answer
    folder  -> AnswerCache.content_hash() -> what a report names

Values are JSON, never pickles: a cache that somebody else recorded can be opened. Nothing is ever evicted, for a
recording with holes cannot be replayed. SQLite's locks do not hold on network file systems: one folder, one machine.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import diskcache
from filelock import AsyncFileLock

from verl_axpo.tools.search.types import Hit

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
        OSError, sqlite3.Error, diskcache.Timeout: from every method, when the disk fails.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._locks = folder / "locks"
        self._locks.mkdir(parents=True, exist_ok=True)
        self._store = diskcache.Cache(str(folder / "answers"), disk=diskcache.JSONDisk, eviction_policy="none")

    def get(self, key: str, *, max_age_s: float | None = None) -> list[Hit] | None:
        """The hits stored under `key`; None if there are none, or only such as are older than `max_age_s` seconds."""
        entry = self._store.get(key)
        if entry is None or (max_age_s is not None and time.time() - entry["stored"] > max_age_s):
            return None
        return [Hit.from_json(one) for one in entry["hits"]]

    def put(self, key: str, request: Request, hits: Sequence[Hit]) -> None:
        """Store an answer, with its request for whoever reads the cache, in place of an older one."""
        hits_json = [one.to_json() for one in hits]
        self._store.set(key, {"request": dict(request), "hits": hits_json, "stored": time.time()})

    def lock(self, key: str) -> AsyncFileLock:
        """To be held while `key` is asked for; a process that dies lets go of it."""
        path = self._locks / f"{int(key, 16) % LOCKS:03x}"
        # Inline: an acquisition in a thread could succeed after its caller was cancelled, and would never be released
        return AsyncFileLock(path, run_in_executor=False)

    def content_hash(self) -> str:
        """SHA-256 over all requests and answers, whatever the order and time in which they were stored."""
        total = hashlib.sha256()
        for key in sorted(self._store.iterkeys()):
            total.update(f"{key} {_canonical(self._store[key]['hits'])}\n".encode())
        return total.hexdigest()

    def __len__(self) -> int:
        return len(self._store)


def content_hash(folder: str | Path) -> str:
    """`AnswerCache.content_hash` of a folder, for reports.

    Raises:
        ValueError: no cache there.
    """
    if not (Path(folder) / "answers").is_dir():
        raise ValueError(f"search cache: got {str(folder)!r}, which holds no answers; expected a recorded cache_dir")
    return AnswerCache(Path(folder)).content_hash()
