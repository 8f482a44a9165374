"""The keys of the search tool's config, parsed once and checked at start, before a rollout meets what is missing.

tool config (mapping) -> SearchConfig.parse() -> service.py
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from verl_axpo.tools.configs import HOST_KEYS

ENGINES = ("tavily", "local")
MODES = ("live", "record", "replay")
ON_MISS = ("infra_failure", "error")
DEPTHS = ("basic", "advanced")
KEY_VARIABLE = "TAVILY_API_KEY"
LEAKS = ("huggingface.co",)  # pages with the benchmarks' answers: left out of every web search (paper, section 2)
NO_ENGINE = (
    "tavily-search: nothing to search with. Set one of: the environment variable {key} (a Tavily key); `documents`, a "
    "folder of .txt, .md or .jsonl files, in the tool's config; or `mode: replay` with a recorded `cache_dir`"
)


def default_cache_dir() -> Path:
    """`search` in our folder of the user's cache directory (XDG)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "verl_axpo" / "search"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """What the user may set; every key is optional. Times in seconds.

    Example: `SearchConfig.parse({"documents": "corpus"})` searches the files under `corpus`
    """

    engine: str | None = None  # tavily | local; None: local if there are `documents`, else tavily
    documents: str | None = None  # folder of the local engine
    cache_dir: str | None = None  # answers, quota and index; on a local disk, shared by all workers of a machine
    mode: str = "live"  # live | record | replay
    on_miss: str = "infra_failure"  # infra_failure | error: what a replay does without a recorded answer
    max_age_s: float = 7 * 86_400.0  # an older cached answer is asked for again; live only
    max_tokens: int = 1024  # of the text that one call returns
    tokenizer: str | None = None  # a tokenizer.json to count them by; None estimates
    run: str = "default"  # paid calls are counted under this name
    max_paid_calls: int = 1_000  # of the run; the monthly credits of Tavily's free plan
    requests_per_minute: float = 100.0  # of all processes; what Tavily grants a development key
    max_concurrency: int = 16  # calls that one process has under way
    attempts: int = 5  # of one call, the first included
    attempt_timeout_s: float = 30.0
    timeout_s: float = 120.0  # of one call with all its waiting
    search_depth: str = "basic"  # basic | advanced; an advanced search costs two credits
    exclude_domains: tuple[str, ...] = ()  # beside LEAKS, which nothing takes away
    base_url: str | None = None  # of a proxy that speaks Tavily's protocol

    @classmethod
    def parse(cls, mapping: Mapping[str, Any]) -> "SearchConfig":
        """The config of a tool, checked.

        Raises:
            ValueError: an unknown key, a value out of range, or nothing to search with.
        """
        given = {key: value for key, value in mapping.items() if key not in HOST_KEYS}
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(given) - set(known)):
            raise ValueError(f"tavily-search: unknown keys {unknown} in the tool's config; choose from {known}")
        if not isinstance(given.get("exclude_domains"), str):
            given["exclude_domains"] = tuple(given.get("exclude_domains") or ())
        config = cls(**given)
        config._check_values()
        config._check_engine()
        return config

    @property
    def chosen_engine(self) -> str:
        """`engine`, or what the other keys say."""
        return self.engine or ("local" if self.documents else "tavily")

    @property
    def folder(self) -> Path:
        """`cache_dir`, or the default."""
        return Path(self.cache_dir).expanduser() if self.cache_dir else default_cache_dir()

    def _check_values(self) -> None:
        for name, choices in (("mode", MODES), ("on_miss", ON_MISS), ("search_depth", DEPTHS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"tavily-search: {name}: got {getattr(self, name)!r}; choose from {list(choices)}")
        if self.engine not in (None, *ENGINES):
            raise ValueError(f"tavily-search: engine: got {self.engine!r}; choose from {list(ENGINES)}")
        if isinstance(self.exclude_domains, str):
            raise ValueError(
                f"tavily-search: exclude_domains: got {self.exclude_domains!r}, expected a list of domains"
            )
        smallest = {"max_tokens": 64, "max_paid_calls": 0, "max_concurrency": 1, "attempts": 1}
        for name, least in smallest.items():
            if not isinstance(value := getattr(self, name), int) or value < least:
                raise ValueError(f"tavily-search: {name}: got {value!r}, expected a whole number from {least}")
        for name in ("max_age_s", "requests_per_minute", "attempt_timeout_s", "timeout_s"):
            if not isinstance(value := getattr(self, name), int | float) or not value > 0:
                raise ValueError(f"tavily-search: {name}: got {value!r}, expected a number above 0")

    def _check_engine(self) -> None:
        if self.chosen_engine == "local":
            if not self.documents or not Path(self.documents).expanduser().is_dir():
                raise ValueError(f"tavily-search: documents: got {self.documents!r}, expected a folder that exists")
            if self.mode != "live":
                raise ValueError(
                    f"tavily-search: mode: got {self.mode!r} with the local engine, which answers the same way every "
                    "time without it; leave `mode` out, or set `engine: tavily`"
                )
        elif self.mode != "replay" and not os.environ.get(KEY_VARIABLE):
            raise ValueError(NO_ENGINE.format(key=KEY_VARIABLE))
