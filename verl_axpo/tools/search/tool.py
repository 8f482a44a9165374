"""`tavily-search` as a verl tool: arguments -> `Search` -> text with sources -> ToolResponse."""

import logging
from typing import Any

from verl.tools.base_tool import BaseTool
from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse

from verl_axpo import prompts
from verl_axpo.tools.search.arguments import SearchArgumentError, parse_arguments
from verl_axpo.tools.search.service import ReplayMiss, Search
from verl_axpo.tools.search.trim import render, token_counter
from verl_axpo.tools.text import quoted

NAME = "tavily-search"
logger = logging.getLogger(__name__)


class TavilySearch(BaseTool):
    """verl tool. Config keys: those of `SearchConfig`, all optional; what is missing is said at start.

    Nothing is kept per trajectory, so `create`, `calc_reward` and `release` are verl's.
    """

    strict_arguments = True  # see `TrajectoryTool`

    def __init__(self, config: dict[str, Any], tool_schema: OpenAIFunctionToolSchema | None = None) -> None:
        super().__init__(config, tool_schema or OpenAIFunctionToolSchema.model_validate(prompts.tool_schema(NAME)))
        self.search = Search(config)
        self._count = token_counter(self.search.config.tokenizer)
        logger.info("%s: %s", NAME, self.search.describe())

    def content_hash(self) -> str:
        """Of what answers; see `Search.content_hash`. An evaluation names it."""
        return self.search.content_hash()

    async def execute(
        self, instance_id: str, parameters: dict[str, Any], **kwargs: Any
    ) -> tuple[ToolResponse, float, dict[str, Any]]:
        """Carry out one call.

        Args:
            instance_id: from `create`; unused, the tool has no state.
            parameters: the call's decoded `arguments`, of whatever type the policy wrote.
            kwargs: whatever the host passes; unused.

        Returns:
            the passages or, for a bad call, a text for the policy; reward 0; `{"ok": bool, "error": str | None}`.

        Raises:
            InfraFailure: see `Search.search`.
        """
        try:
            query, max_results = parse_arguments(parameters)
            hits = await self.search.search(query, max_results)
        except SearchArgumentError as error:
            return _refused(str(error))
        except ReplayMiss:
            return _refused(f"nothing is known about {quoted(parameters['query'])}; try another query.")
        text = render(hits, self.search.config.max_tokens, self._count)
        return ToolResponse(text=text), 0.0, {"ok": True, "error": None}


def _refused(why: str) -> tuple[ToolResponse, float, dict[str, Any]]:
    text = f"Error: {why}"
    return ToolResponse(text=text), 0.0, {"ok": False, "error": text}
