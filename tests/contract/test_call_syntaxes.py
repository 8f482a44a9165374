"""verl's tool-call parsers: they agree with ours on plain calls, and are wrong about the calls below.

When a test of the second kind fails, verl has mended its parser: let `ByVerl` decode that syntax, and drop our own.
"""

import asyncio
import json
from typing import Any

import pytest
from verl.experimental.agent_loop.tool_parser import FunctionCall, ToolParser
from verl.tools.schemas import OpenAIFunctionToolSchema

from verl_axpo.tools.syntax import syntax

PROPERTIES = {name: {"type": kind} for name, kind in (("text", "string"), ("list", "array"), ("number", "number"))}
PARAMETERS = {"type": "object", "properties": PROPERTIES, "required": []}
TOOL = {"type": "function", "function": {"name": "f", "description": "F.", "parameters": PARAMETERS}}
NAMES = ("hermes", "qwen3_coder", "glm")


class Text:
    """A tokenizer of a single text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def decode(self, _: list[int], **__: Any) -> str:
        return self.text


def by_verl(name: str, text: str) -> list[tuple[str, Any]]:
    parser = ToolParser.get_tool_parser(name, Text(text))
    _, calls = asyncio.run(parser.extract_tool_calls([0], [OpenAIFunctionToolSchema.model_validate(TOOL)]))
    return [(call.name, json.loads(call.arguments)) for call in calls]


def written(name: str, arguments: dict[str, Any]) -> str:
    return syntax(name).write("f", arguments, [TOOL])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "arguments", [{}, {"text": "print(1)\nprint(2)"}, {"text": "<b>中</b>", "number": -0.5}, {"list": [1, 2.5, "a"]}]
)
def test_plain_calls_are_read_as_verl_reads_them(name: str, arguments: dict[str, Any]) -> None:
    text = written(name, arguments)
    assert by_verl(name, f"Well. {text}\n{text}") == [("f", arguments)] * 2


@pytest.mark.parametrize(
    ("name", "arguments", "got"),
    [
        ("hermes", {"text": "'</tool_call>'"}, []),  # the call is lost
        ("qwen3_coder", {"text": "'</parameter>'"}, [("f", {"text": "'"})]),
        ("qwen3_coder", {"text": "null"}, [("f", {"text": None})]),
        ("qwen3_coder", {"list": [True, None]}, [("f", {"list": "[true, null]"})]),
        ("glm", {"text": "  indented\n"}, [("f", {"text": "indented"})]),
        ("glm", {"text": "5"}, [("f", {"text": 5})]),
        ("glm", {"text": "'</arg_value>'"}, [("f", {"text": "'"})]),
    ],
)
def test_where_verl_is_wrong(name: str, arguments: dict[str, Any], got: list[Any]) -> None:
    text = written(name, arguments)
    assert by_verl(name, text) == got
    ((call, _),) = syntax(name).calls_in(text, [TOOL])
    assert call.arguments == arguments


@pytest.mark.parametrize(
    ("name", "text"),
    [("hermes", "<tool_call>oops</tool_call>"), ("qwen3_coder", "<tool_call>oops</tool_call>")],
)
def test_verl_drops_what_it_cannot_read(name: str, text: str) -> None:
    assert by_verl(name, text) == []


def test_what_a_call_is_made_of() -> None:
    assert set(FunctionCall.model_fields) >= {"name", "arguments"}
    assert {"hermes", "qwen3_coder", "glm", "seed", "gemma4"} <= set(ToolParser._registry)
    assert isinstance(ToolParser.stop_token_ids, property)
