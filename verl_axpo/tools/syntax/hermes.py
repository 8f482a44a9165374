"""Calls as one JSON object: Qwen2.5, Qwen3, Qwen3-VL, and many others.

    <tool_call>
    {"name": "python", "arguments": {"code": "1 + 1"}}
    </tool_call>

verl's parser of this name ends a call at the first closing tag, inside a string too, and drops an undecodable call.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from verl_axpo.tools.syntax.base import CallSyntax, ParsedCall, Schema, after_space

EXPECTED = 'expected {"name": <tool>, "arguments": {...}}'  # of every undecodable call
_JSON = json.JSONDecoder()


class Hermes(CallSyntax):
    """JSON between the tags; it says itself where it ends."""

    name = "hermes"
    sign = re.compile(r'<tool_call>\s*\{+\s*"')
    announcement = (
        "Write a call as one JSON object between the tags:\n"
        '<tool_call>\n{"name": function, "arguments": object}\n</tool_call>'
    )

    def end_of(self, text: str, start: int) -> int | None:
        """After the JSON; no other closing tag need be tried: a tag inside a string is passed over, and at a tag
        outside the JSON is invalid.

        Of two calls only one can be read beyond the end of the second, for a quote that opens a string for one closes
        it for the other: reading from every opening tag of a turn is linear.
        """
        begin = after_space(text, start)
        if not text.startswith("{", begin):
            return None
        try:
            call, end = _JSON.raw_decode(text, begin)
        except (ValueError, RecursionError):
            return None
        return None if _problem_of(call) else end

    def decode(self, raw: str, tools: Sequence[Schema] = ()) -> ParsedCall:
        """See `CallSyntax.decode`; JSON has types of its own, so `tools` are not asked."""
        try:
            call = json.loads(raw)
        except (ValueError, RecursionError) as error:
            problem: str | None = f"The tool call is not valid JSON ({error}); {EXPECTED}."
        else:
            problem = _problem_of(call)
        if problem is not None:
            return ParsedCall(name="", arguments={}, raw=raw, problem=problem)
        return ParsedCall(name=call["name"], arguments=call.get("arguments", {}), raw=raw)

    def body(self, name: str, arguments: Mapping[str, Any], tools: Sequence[Schema] = ()) -> str:
        """See `CallSyntax.body`."""
        return "\n" + json.dumps({"name": name, "arguments": dict(arguments)}) + "\n"


def _problem_of(call: Any) -> str | None:
    """What a decoded JSON value lacks to be a call."""
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return f"The tool call names no tool; {EXPECTED}."
    if not isinstance(call.get("arguments", {}), dict):
        return f"The arguments of {call['name']} are not a JSON object; {EXPECTED}."
    return None
