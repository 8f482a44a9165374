"""Calls whose arguments stand between tags of their own, as text: Qwen3.5 and later, Qwen3-Coder, GLM.

    qwen3_coder  <tool_call>                      glm  <tool_call>python
                 <function=python>                     <arg_key>code</arg_key>
                 <parameter=code>                      <arg_value>print(1)</arg_value>
                 print(1)                              </tool_call>
                 </parameter>
                 </function>
                 </tool_call>

Nothing is escaped. An argument ends at the closing tag that another argument, or the end of the call, follows: so
code may hold such tags itself. What a text stands for, only the tool's schema says: 5 is text where it says string.

verl's parsers of these names end an argument at its first closing tag, in code too. `qwen3_coder` reads `[true]` as
text and the text `null` as nothing; `glm` strips code and reads the text `5` as a number. Both drop what they cannot
read.
tests/contract/test_call_syntaxes.py tells when they can be used instead.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from verl_axpo.tools.syntax.base import CallSyntax, ParsedCall, Schema, after_space, properties_of


class TaggedArguments(CallSyntax):
    """Name, then arguments between tags.

    Attributes:
        header: the name, in its first group.
        key: the beginning of an argument, its name in the first group.
        value_end: the end of an argument, with what follows looked at.
        trailer: the end of the call.
        begins: a call after its opening tag, as no argument may hold it.
        pad: the white space around an argument that is not part of it.
        expected: the form in words, for the policy.
    """

    header: re.Pattern[str]
    key: re.Pattern[str]
    value_end: re.Pattern[str]
    trailer: re.Pattern[str]
    begins: re.Pattern[str]
    pad: str
    expected: str

    def end_of(self, text: str, start: int) -> int | None:
        """See `CallSyntax.end_of`. No argument holds the beginning of another call, for a call that was left open
        would swallow the next; so every text is read once, however many calls it has."""
        if self.header.match(text, start) is None:
            return None
        following = self.begins.search(text, start)
        read = self._read(text, start, following.start() if following else len(text))
        return None if isinstance(read, str) else read[2]

    def decode(self, raw: str, tools: Sequence[Schema] = ()) -> ParsedCall:
        """See `CallSyntax.decode`."""
        read = self._read(raw, 0, len(raw))
        if isinstance(read, str):
            return ParsedCall(name="", arguments={}, raw=raw, problem=f"{read}; {self.expected}.")
        name, texts, end = read
        if after_space(raw, end) < len(raw):
            problem = f"The tool call goes on after its end; {self.expected}."
            return ParsedCall(name="", arguments={}, raw=raw, problem=problem)
        schemas = properties_of(name, tools)
        arguments = {key: text if _is_text(schemas.get(key)) else value_of(text) for key, text in texts.items()}
        return ParsedCall(name=name, arguments=arguments, raw=raw)

    def _read(self, text: str, start: int, stop: int) -> tuple[str, dict[str, str], int] | str:
        """Name, the arguments' texts, where the call ends; or what is wrong, in a sentence without its full stop."""
        header = self.header.match(text, start, stop)
        if header is None:
            return "The tool call names no tool"
        texts, at = dict[str, str](), header.end()
        while key := self.key.match(text, at, stop):
            end = self.value_end.search(text, key.end(), stop)
            if end is None:
                return f"The argument {key[1]} of {header[1]} is not closed"
            if key[1] in texts:
                return f"The argument {key[1]} of {header[1]} is there twice"
            texts[key[1]] = self._unpadded(text[key.end() : end.start()])
            at = end.end()
        trailer = self.trailer.match(text, at, stop)
        if trailer is None:
            return f"The call of {header[1]} holds something else than arguments"
        return header[1], texts, trailer.end()

    def _unpadded(self, text: str) -> str:
        return text.removeprefix(self.pad).removesuffix(self.pad) if self.pad else text

    def body(self, name: str, arguments: Mapping[str, Any], tools: Sequence[Schema] = ()) -> str:
        """See `CallSyntax.body`."""
        schemas = properties_of(name, tools)
        written = (self.argument(key, self._text_of(value, schemas.get(key))) for key, value in arguments.items())
        return self.around(name, "".join(written))

    def _text_of(self, value: Any, schema: Any) -> str:
        """The first spelling of a value that is read back as it; the plainest if none is, and `write` refuses it."""
        spellings, wanted = list(_spellings(value)), json.dumps(value, sort_keys=True)
        for text in spellings:
            body = self.around("f", self.argument("k", text))
            read = self._read(body, 0, len(body))
            if isinstance(read, str) or list(read[1]) != ["k"] or self.begins.search(body):
                continue
            back = text if _is_text(schema) else value_of(text)
            if json.dumps(back, sort_keys=True) == wanted and read[1]["k"] == text:
                return text
        return spellings[0]

    def argument(self, key: str, text: str) -> str:
        """An argument with its tags."""
        raise NotImplementedError

    def around(self, name: str, arguments: str) -> str:
        """A call's body."""
        raise NotImplementedError


class QwenXml(TaggedArguments):
    """Qwen3.5, 3.6, 3.8, Qwen3-Coder, Nemotron 3. verl has its parser under the name `qwen3_coder`."""

    name = "qwen3_coder"
    sign = re.compile(r"<tool_call>\s*<function=")
    header = re.compile(r"\s*<function=([^>\n]+)>\s*")
    key = re.compile(r"<parameter=([^>\n]+)>")
    value_end = re.compile(r"</parameter>\s*(?=<parameter=|</function>)")
    trailer = re.compile(r"</function>\s*")
    begins = sign
    pad = "\n"
    expected = "expected function=NAME, then parameter=KEY, a value and /parameter for each argument, then /function"
    announcement = (
        "Write a call in this form, an argument's value on lines of its own:\n<tool_call>\n<function=name>\n"
        "<parameter=argument>\nvalue\n</parameter>\n</function>\n</tool_call>"
    )

    def argument(self, key: str, text: str) -> str:
        """See `TaggedArguments.argument`."""
        return f"<parameter={key}>\n{text}\n</parameter>\n"

    def around(self, name: str, arguments: str) -> str:
        """See `TaggedArguments.around`."""
        return f"\n<function={name}>\n{arguments}</function>\n"


class Glm(TaggedArguments):
    """GLM-4.5 and later, with and without line breaks. The token that begins the tool's response ends a turn."""

    name = "glm"
    stops = ("<|observation|>",)
    sign = re.compile(r"<tool_call>[^<\n]+\n?<arg_key>")
    header = re.compile(r"\s*([\w.:/-]+)\s*(?=<arg_key>|</tool_call>|\Z)")
    key = re.compile(r"\s*<arg_key>([^<]+)</arg_key>\s*<arg_value>")
    value_end = re.compile(r"</arg_value>\s*(?=<arg_key>|</tool_call>|\Z)")
    trailer = re.compile(r"\s*")
    begins = re.compile(r"<tool_call>\s*[\w.:/-]+\s*<arg_key>")
    pad = ""
    expected = "expected NAME, then arg_key, KEY, /arg_key, arg_value, a value and /arg_value for each argument"
    announcement = (
        "Write a call in this form:\n<tool_call>name\n<arg_key>argument</arg_key>\n<arg_value>value</arg_value>\n"
        "</tool_call>"
    )

    def argument(self, key: str, text: str) -> str:
        """See `TaggedArguments.argument`."""
        return f"<arg_key>{key}</arg_key>\n<arg_value>{text}</arg_value>\n"

    def around(self, name: str, arguments: str) -> str:
        """See `TaggedArguments.around`."""
        return f"{name}\n{arguments}"


def _is_text(schema: Any) -> bool:
    """Whether an argument's text is its value: the schema says string, or there is none."""
    return not isinstance(schema, Mapping) or schema.get("type", "any") == "string"


def value_of(text: str) -> Any:
    """The JSON value that a text stands for; a Python literal, as some templates write them; else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(json.dumps(ast.literal_eval(text.strip())))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return text


def _spellings(value: Any) -> Iterator[str]:
    """How a value may be written, the plainest first."""
    if isinstance(value, str):
        yield value
    plain = json.dumps(value, ensure_ascii=False)
    yield plain
    yield plain.replace("<", "\\u003c")  # no tag is left in it
