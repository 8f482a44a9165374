"""`Search`: from a query to its hits, for each engine and mode. Needs no verl; one object per process.

query -> local engine -> hits
      -> cache -> hit: done
               -> miss: replay -> ReplayMiss or InfraFailure
                        live, record -> lock of the request -> Tavily -> cache
"""

import asyncio
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from verl_axpo.errors import InfraFailure
from verl_axpo.tools.search.cache import AnswerCache, request_key
from verl_axpo.tools.search.config import KEY_VARIABLE, SearchConfig
from verl_axpo.tools.search.hits import Hit
from verl_axpo.tools.search.local_index import LocalIndex
from verl_axpo.tools.search.tavily import PerLoop, TavilyEngine, tavily_request

# Errors of the disk with cache, quota or index; they are not the policy's fault
STORAGE_ERRORS = (OSError, sqlite3.Error)


class ReplayMiss(LookupError):
    """A replay has no recorded answer, and `on_miss` is `error`."""


class Search:
    """A search engine with its cache, rate, limit of paid calls and mode.

    Args:
        config: a mapping of `SearchConfig`'s keys.

    Raises:
        ValueError: nothing to search with, an empty recording, or a wrong key; here, so that no call meets it.

    Example: `await Search({"documents": "corpus"}).search("capital of Norway", 3)`
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = settings = SearchConfig.parse(config)
        self._concurrency = PerLoop(lambda: asyncio.Semaphore(settings.max_concurrency))
        self._index: LocalIndex | None = None
        self._engine: TavilyEngine | None = None
        if settings.chosen_engine == "local":
            self._index = LocalIndex(Path(str(settings.documents)).expanduser(), settings.folder)
            return
        self.cache = AnswerCache(settings.folder)
        if settings.mode != "replay":
            self._engine = TavilyEngine(settings, os.environ[KEY_VARIABLE])
        elif not len(self.cache):
            raise ValueError(
                f"tavily-search: mode: replay, but {settings.folder} holds no recorded answer; set `cache_dir` to the "
                "folder of a run with `mode: record`"
            )

    async def search(self, query: str, max_results: int) -> list[Hit]:
        """The hits for a query that `parse_arguments` let through, best first.

        Raises:
            CallError: the service does not take this query.
            InfraFailure: no answer within `timeout_s`, the service or the disk failed, no paid call is left, or nothing
                was recorded.
            ReplayMiss: nothing was recorded and `on_miss` is `error`.
        """
        answer = self._local if self._index else self._cached
        try:
            return await asyncio.wait_for(answer(query, max_results), self.config.timeout_s)
        except asyncio.TimeoutError as error:
            raise InfraFailure(f"search: no answer within {self.config.timeout_s:g} s") from error
        except STORAGE_ERRORS as error:
            raise InfraFailure(f"search: {self.config.folder} cannot be used ({error!r}); look at the disk") from error

    def content_hash(self) -> str:
        """SHA-256 of the recorded answers or the documents, for reports; with equal hashes the answers are equal."""
        return self._index.content_hash if self._index else self.cache.content_hash()

    def describe(self) -> str:
        """One line for logs: engine, mode and how much there is to answer from."""
        if self._index:
            return f"local index of {self._index.num_documents} documents under {self.config.documents}"
        return f"Tavily, mode {self.config.mode}, {len(self.cache)} answers cached in {self.config.folder}"

    async def _local(self, query: str, max_results: int) -> list[Hit]:
        assert self._index is not None
        async with self._concurrency.get():
            return await asyncio.to_thread(self._index.search, query, max_results)

    async def _cached(self, query: str, max_results: int) -> list[Hit]:
        request = tavily_request(self.config, query, max_results)
        key = request_key(request)
        if (hits := await self._stored(key)) is not None:
            return hits
        if self._engine is None:
            raise self._miss(query)
        async with self.cache.lock(key):
            # The process that held the lock before may have asked the same
            if (hits := await self._stored(key)) is None:
                async with self._concurrency.get():
                    hits = await self._engine.fetch(request)
                await asyncio.to_thread(self.cache.put, key, request, hits)
        return hits

    async def _stored(self, key: str) -> list[Hit] | None:
        max_age_s = self.config.max_age_s if self.config.mode == "live" else None
        return await asyncio.to_thread(self.cache.get, key, max_age_s=max_age_s)

    def _miss(self, query: str) -> Exception:
        what = f"search: no recorded answer for {query!r} in {self.config.folder} (mode: replay)"
        return ReplayMiss(what) if self.config.on_miss == "error" else InfraFailure(what)
