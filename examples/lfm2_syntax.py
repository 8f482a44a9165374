"""A call syntax that is not built in: LFM2's, a Python call between tags (docs/add_a_model.md).

    <|tool_call_start|>[python(code="print(1)")]<|tool_call_end|>

A package makes it known with an entry point in the group `verl_axpo.call_syntaxes`, such as
`lfm2 = "examples.lfm2_syntax:LFM2"`.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from verl_axpo.tools.syntax import CallSyntax, ParsedCall, Schema

EXPECTED = "expected [name(argument=value)], the values as in Python"


class Lfm2(CallSyntax):
    """Arguments are Python literals, so they have types of their own."""

    name = "lfm2"
    opening, closing = "<|tool_call_start|>", "<|tool_call_end|>"
    sign = re.compile(r"<\|tool_call_start\|>\[")
    announcement = (
        "Write a call as in Python between the tags:\n<|tool_call_start|>[name(argument=value)]<|tool_call_end|>"
    )

    def decode(self, raw: str, tools: Sequence[Schema] = ()) -> ParsedCall:
        """See `CallSyntax.decode`."""
        try:
            (call,) = ast.parse(raw, mode="eval").body.elts  # type: ignore[attr-defined]
            literal = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
            arguments = json.loads(json.dumps(literal))
            if call.args or not all(isinstance(name, str) for name in literal):
                raise ValueError("an argument has no name")
            return ParsedCall(name=call.func.id, arguments=arguments, raw=raw)
        except (SyntaxError, ValueError, TypeError, AttributeError, RecursionError, MemoryError) as error:
            problem = f"The tool call cannot be read ({error}); {EXPECTED}."
            return ParsedCall(name="", arguments={}, raw=raw, problem=problem)

    def body(self, name: str, arguments: Mapping[str, Any], tools: Sequence[Schema] = ()) -> str:
        """See `CallSyntax.body`."""
        return f"[{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})]"


LFM2 = Lfm2()
