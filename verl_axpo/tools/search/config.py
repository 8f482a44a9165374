"""The keys of the search tool's config, checked at start, so that nothing is missing in a rollout.

tool config (mapping) -> SearchConfig.parse() -> service.py
"""

import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from verl_axpo.tools.configs import ToolConfig

KEY_VARIABLE = "TAVILY_API_KEY"
LEAKS = ("huggingface.co",)  # pages with the benchmarks' answers: left out of every web search (paper, section 2)
NO_ENGINE = (
    f"nothing to search with. Set one of: the environment variable {KEY_VARIABLE} (a Tavily key); `documents`, a "
    "folder of .txt, .md or .jsonl files, in the tool's config; or `mode: replay` with a recorded `cache_dir`"
)
_Positive = Annotated[int, Field(ge=1)]
_AboveZero = Annotated[float, Field(gt=0)]


def default_cache_dir() -> Path:
    """`search` in our folder of the user's cache directory (XDG)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "verl_axpo" / "search"


class SearchConfig(ToolConfig):
    """What the user may set; every key is optional. Times in seconds.

    Raises:
        ValueError: an unknown key, a value out of range, or nothing to search with.

    Example: `SearchConfig(documents="corpus")` searches the files under `corpus`
    """

    tool: ClassVar[str] = "tavily-search"
    engine: Literal["tavily", "local"] | None = None  # None: local if there are `documents`, else tavily
    documents: str | None = None  # folder of the local engine
    cache_dir: str | None = None  # answers, quota and index; on a local disk, shared by all workers of a machine
    mode: Literal["live", "record", "replay"] = "live"
    on_miss: Literal["infra_failure", "error"] = "infra_failure"  # what a replay does without a recorded answer
    max_age_s: _AboveZero = 7 * 86_400.0  # an older cached answer is asked for again; live only
    max_tokens: Annotated[int, Field(ge=64)] = 1024  # of the text that one call returns
    tokenizer: str | None = None  # a tokenizer.json to count them by; None estimates
    run: str = "default"  # paid calls are counted under this name
    max_paid_calls: Annotated[int, Field(ge=0)] = 1_000  # of the run; the monthly credits of Tavily's free plan
    requests_per_minute: _AboveZero = 100.0  # of all processes; what Tavily grants a development key
    max_concurrency: _Positive = 16  # calls that one process has under way
    attempts: _Positive = 5  # of one call, the first included
    attempt_timeout_s: _AboveZero = 30.0
    timeout_s: _AboveZero = 120.0  # of one call with all its waiting
    search_depth: Literal["basic", "advanced"] = "basic"  # an advanced search costs two credits
    exclude_domains: list[str] | None = None  # in addition to LEAKS, which are always left out
    base_url: str | None = None  # of a proxy that speaks Tavily's protocol

    @model_validator(mode="after")
    def _check_engine(self) -> "SearchConfig":
        if self.chosen_engine == "tavily" and self.mode != "replay" and not os.environ.get(KEY_VARIABLE):
            raise ValueError(NO_ENGINE)
        if self.chosen_engine == "local":
            if not self.documents or not Path(self.documents).expanduser().is_dir():
                raise ValueError(f"documents: got {self.documents!r}, expected a folder that exists")
            if self.mode != "live":
                raise ValueError(
                    f"mode: got {self.mode!r} with the local engine, which answers the same way every time without it; "
                    "leave `mode` out, or set `engine: tavily`"
                )
        return self

    @property
    def chosen_engine(self) -> str:
        """`engine`, or what the other keys say."""
        return self.engine or ("local" if self.documents else "tavily")

    @property
    def folder(self) -> Path:
        """`cache_dir`, or the default."""
        return Path(self.cache_dir).expanduser() if self.cache_dir else default_cache_dir()
