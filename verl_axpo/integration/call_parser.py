"""Tool calls of a turn as verl's loop takes them: token ids -> `ToolCallParser` -> `FunctionCall`, or a `BadCall`.

verl's registry of parsers gets ours under `axpo`, and under `axpo_<syntax>` for each call syntax that a user may name.
"""

import json
from typing import Any

from verl.experimental.agent_loop.tool_parser import FunctionCall, ToolParser
from verl.tools.schemas import OpenAIFunctionToolSchema
from verl.utils.rollout_trace import rollout_trace_op

from verl_axpo.tools.chat_format import ChatFormat, format_of
from verl_axpo.tools.syntax import ParsedCall, syntaxes
from verl_axpo.tools.text import utf8

PARSER_NAME = "axpo"


class BadCall(FunctionCall):
    """A call that could not be decoded; `problem` becomes the tool's response."""

    problem: str


@ToolParser.register(PARSER_NAME)
class ThinkAwareToolParser(ToolParser):
    """`ToolCallParser` in verl's parser registry (`rollout.multi_turn.format=axpo`).

    verl makes it of the tokenizer alone; the loop, whose prompts the processor may render, and with kwargs of the data,
    calls `use`.
    """

    named = ""  # the call syntax, where the user names it: the parsers `axpo_<syntax>`

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer)
        self.use(format_of(tokenizer, named=self.named))

    def use(self, chat_format: ChatFormat) -> None:
        """Read turns of this format.

        Raises:
            ValueError: the tokenizer splits a tag.
        """
        self.format, self.calls = chat_format, chat_format.parser(self.tokenizer)

    @property
    def stop_token_ids(self) -> list[int]:
        """Tokens that end a turn besides the end of sequence."""
        return [self.tokenizer.convert_tokens_to_ids(stop) for stop in self.format.syntax.stops]

    @rollout_trace_op
    async def extract_tool_calls(
        self, responses_ids: list[int], tools: list[OpenAIFunctionToolSchema] | None = None
    ) -> tuple[str, list[FunctionCall]]:
        """(text before the first call, calls); an undecodable call is a `BadCall`."""
        spans = self.calls.spans(responses_ids)
        content = self.tokenizer.decode(responses_ids[: spans[0].open] if spans else responses_ids)
        schemas = [tool.model_dump() for tool in tools or ()] if spans else []
        return content, [function_call(self.calls.parse(responses_ids, span, schemas)) for span in spans]


for _name in syntaxes():
    ToolParser.register(f"{PARSER_NAME}_{_name}")(type(f"Parser_{_name}", (ThinkAwareToolParser,), {"named": _name}))


def function_call(call: ParsedCall) -> FunctionCall:
    """A parsed call as verl's loop takes it (`tool_parser.FunctionCall`); a `BadCall` if undecodable.

    verl logs a name that it does not know, and a log file takes no half of a surrogate pair.
    """
    if call.problem is not None:
        return BadCall(name=call.name, arguments=json.dumps({"raw": call.raw}), problem=call.problem)
    return FunctionCall(name=utf8(call.name), arguments=json.dumps(call.arguments, ensure_ascii=False))
