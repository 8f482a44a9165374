"""`tavily-search` as a verl tool: arguments -> parse_arguments() -> `Search` -> text with sources -> ToolResponse."""

import logging
from collections.abc import Mapping
from typing import Any

from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse

from verl_axpo.errors import CallError
from verl_axpo.tools.paper_tools import TAVILY_SEARCH
from verl_axpo.tools.policy_tool import Answer, PolicyTool
from verl_axpo.tools.search.hits import render, token_counter
from verl_axpo.tools.search.service import ReplayMiss, Search
from verl_axpo.tools.text import quoted

MAX_QUERY_CHARS = 400  # Tavily refuses longer ones
MAX_RESULTS = 20  # Tavily's own limit
DEFAULT_RESULTS = 5  # the paper's
logger = logging.getLogger(__name__)


def parse_arguments(arguments: Mapping[str, Any]) -> tuple[str, int]:
    """Check a call's arguments.

    Returns:
        the query, its white space collapsed, and the number of results: what every engine takes.

    Raises:
        CallError: see there.
    """
    if "query" not in arguments:
        raise CallError(
            f'query is missing, got the arguments {quoted(list(arguments))}; write {{"query": "a few words"}}.'
        )
    query, number = arguments["query"], arguments.get("max_results", DEFAULT_RESULTS)
    if not isinstance(query, str):
        raise CallError(f"query must be a string, got {quoted(query)}.")
    # JSON can spell lone surrogates and control characters, which neither UTF-8 nor SQLite takes
    words = " ".join("".join(char if char.isprintable() else " " for char in query).split())
    if not any(char.isalnum() for char in words):
        raise CallError(f"query must contain a word, got {quoted(query)}; write what you want to find.")
    if len(words) > MAX_QUERY_CHARS:
        raise CallError(
            f"query has {len(words)} characters, at most {MAX_QUERY_CHARS} are allowed; keep the key words."
        )
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MAX_RESULTS:
        raise CallError(f"max_results must be a whole number from 1 to {MAX_RESULTS}, got {quoted(number)}.")
    return words, number


class TavilySearch(PolicyTool):
    """verl tool. Config keys: those of `SearchConfig`, all optional; what is missing stops the run at its start.

    Nothing is kept per trajectory, so `create`, `calc_reward` and `release` are verl's.
    """

    prompt = TAVILY_SEARCH

    def __init__(self, config: dict[str, Any], tool_schema: OpenAIFunctionToolSchema | None = None) -> None:
        super().__init__(config, tool_schema)
        self.search = Search(config)
        self._count = token_counter(self.search.config.tokenizer)
        logger.info("%s: %s", self.name, self.search.describe())

    def content_hash(self) -> str:
        """The hash of everything that can be answered; see `Search.content_hash`. An evaluation's report has it."""
        return self.search.content_hash()

    async def call(self, instance_id: str, arguments: Mapping[str, Any], agent_data: Any) -> Answer:
        """Passages with their sources; an `InfraFailure` as `Search.search` raises it."""
        query, max_results = parse_arguments(arguments)
        try:
            hits = await self.search.search(query, max_results)
        except ReplayMiss:
            raise CallError(f"nothing is known about {quoted(arguments['query'])}; try another query.") from None
        return ToolResponse(text=render(hits, self.search.config.max_tokens, self._count)), None
