"""A syntax that one of verl's registered parsers decodes: its name and its tags are all that has to be said.

raw -> opening + raw + closing -> verl's ToolParser -> name and arguments
"""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from verl_axpo.tools.syntax.base import CallSyntax, ParsedCall, Schema


class _Text:
    """The tokenizer of a single text, whatever its ids."""

    pad_token = None

    def __init__(self, text: str) -> None:
        self.text = text

    def decode(self, token_ids: list[int], **_: Any) -> str:
        return self.text

    def convert_tokens_to_ids(self, tokens: str) -> int:
        return -1


class ByVerl(CallSyntax):
    """Decodes with `ToolParser.get_tool_parser(name)`; a subclass adds `body`, for SFT rows.

    Args:
        name: of verl's parser.
        opening, closing, thinking, stops, sign: see `CallSyntax`.
    """

    def __init__(
        self,
        name: str,
        *,
        opening: str,
        closing: str,
        sign: str,
        thinking: tuple[str, str] = CallSyntax.thinking,
        stops: tuple[str, ...] = (),
    ) -> None:
        self.name, self.opening, self.closing = name, opening, closing
        self.thinking, self.stops, self.sign = thinking, stops, re.compile(sign)

    def decode(self, raw: str, tools: Sequence[Schema] = ()) -> ParsedCall:
        """See `CallSyntax.decode`."""
        from verl.experimental.agent_loop.tool_parser import ToolParser
        from verl.tools.schemas import OpenAIFunctionToolSchema

        parser = ToolParser.get_tool_parser(self.name, _Text(f"{self.opening}{raw}{self.closing}"))
        schemas = [OpenAIFunctionToolSchema.model_validate(tool) for tool in tools]
        # A parser is a coroutine, and a caller may be in an event loop of its own
        with ThreadPoolExecutor(max_workers=1) as thread:
            _, calls = thread.submit(asyncio.run, parser.extract_tool_calls([0], schemas)).result()
        if len(calls) != 1:
            problem = f"The tool call cannot be read; write one call as the system prompt says, not {len(calls)}."
            return ParsedCall(name="", arguments={}, raw=raw, problem=problem)
        return ParsedCall(name=calls[0].name, arguments=json.loads(calls[0].arguments), raw=raw)

    def body(self, name: str, arguments: Mapping[str, Any], tools: Sequence[Schema] = ()) -> str:
        """See `CallSyntax.body`.

        Raises:
            ValueError: verl's parsers do not write; rows with calls in another syntax cannot be rewritten.
        """
        raise ValueError(f"{name}: the call syntax {self.name} can be read, not written; its class needs `body`")
