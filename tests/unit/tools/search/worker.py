"""One process of several: `python worker.py JOB ARGUMENTS`, both sides in JSON (see test_shared.py)."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from verl_axpo.errors import InfraFailure
from verl_axpo.tools.search.cache import AnswerCache
from verl_axpo.tools.search.local_index import LocalIndex
from verl_axpo.tools.search.quota import PaidCallsSpent
from verl_axpo.tools.search.service import Search


def ask(config: dict[str, Any], queries: list[str]) -> list[str]:
    """All queries at once; what each came to."""

    async def one(search: Search, query: str) -> str:
        try:
            return (await search.search(query, 5))[0].title
        except PaidCallsSpent:
            return "spent"
        except InfraFailure as failure:
            return str(failure)

    async def every_one() -> list[str]:
        search = Search(config)
        return await asyncio.gather(*(one(search, query) for query in queries))

    return asyncio.run(every_one())


def build(documents: str, folder: str) -> list[Any]:
    """Open the index over `documents`, which is built if nobody has yet."""
    index = LocalIndex(Path(documents), Path(folder))
    (hit,) = index.search("fact 1999", 1)
    return [index.content_hash, hit.url, index.path.stat().st_mtime_ns]


def hold(folder: str, key: str) -> None:
    """Take the lock of `key`, say so, and keep it until killed."""

    async def take() -> None:
        await AnswerCache(Path(folder)).lock(key).acquire()
        print("taken", flush=True)
        time.sleep(600)

    asyncio.run(take())


if __name__ == "__main__":
    print(json.dumps({"ask": ask, "build": build, "hold": hold}[sys.argv[1]](*json.loads(sys.argv[2]))))
