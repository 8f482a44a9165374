"""How a model family writes a tool call: text of a turn -> where a call ends -> name and arguments, and back again.

    opening tag  the token that begins a call: AXPO's prefix ends with it
    end_of()     where a whole call ends, so that a closing tag inside an argument does not close it
    decode()     the text between the tags -> name and arguments, or what is wrong, said to the policy
    write()      name and arguments -> a call that `decode` reads back

A syntax knows text only; `verl_axpo.tools.parser` finds its tags in token ids.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]  # an OpenAI function schema: {"type": "function", "function": {...}}
THINKING = ("<think>", "</think>")
_SPACE = re.compile(r"\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedCall:
    """A decoded call, or why it could not be decoded (`problem` is a message for the policy)."""

    name: str
    arguments: dict[str, Any]
    raw: str
    problem: str | None = None


class CallSyntax(ABC):
    """The call syntax of a model family.

    Attributes:
        name: as verl names its parser in `rollout.multi_turn.format`; unique among all syntaxes.
        opening: the tag that begins a call, a single token of the family's tokenizers.
        closing: the tag that ends it, likewise.
        thinking: the tags around thinking; a call between them is thought, not acted.
        stops: tokens that end a turn although they are not the tokenizer's end of sequence.
        sign: finds a call, or the example of a call, in what the family's chat template renders.
        announcement: how a system prompt explains the syntax, for a template that renders no tools.
    """

    name: str
    opening: str = "<tool_call>"
    closing: str = "</tool_call>"
    thinking: tuple[str, str] = THINKING
    stops: tuple[str, ...] = ()
    sign: re.Pattern[str]
    announcement: str = ""

    @property
    def tags(self) -> tuple[str, str, str, str]:
        """Thinking, its end, call, its end."""
        return (*self.thinking, self.opening, self.closing)

    def end_of(self, text: str, start: int) -> int | None:
        """Where a whole call ends whose text begins at `start`, after the opening tag; None: not a whole call.

        The default knows no call from inside, so that the first closing tag ends it.
        """
        del text, start
        return None

    @abstractmethod
    def decode(self, raw: str, tools: Sequence[Schema] = ()) -> ParsedCall:
        """The call between the tags. Never raises on what a policy may write: the problem is in the result."""

    @abstractmethod
    def body(self, name: str, arguments: Mapping[str, Any], tools: Sequence[Schema] = ()) -> str:
        """What stands between the tags, white space included."""

    def write(self, name: str, arguments: Mapping[str, Any], tools: Sequence[Schema] = ()) -> str:
        """A call with its tags.

        Raises:
            ValueError: the syntax cannot hold these arguments: they would be read back as others.
        """
        text = f"{self.opening}{self.body(name, arguments, tools)}{self.closing}"
        call, end = next(self.calls_in(text, tools), (None, 0))
        wanted = name, json.dumps(arguments, sort_keys=True)
        if call is None or end != len(text) or (call.name, _canonical(call)) != wanted:
            raise ValueError(f"{name}: the call syntax {self.name} cannot hold {json.dumps(arguments)[:200]}")
        return text

    def calls_in(self, text: str, tools: Sequence[Schema] = ()) -> Iterator[tuple[ParsedCall, int]]:
        """The calls of a text without thinking, and where each ends, its closing tag included."""
        at = text.find(self.opening)
        while at >= 0:
            begin = at + len(self.opening)
            closing = self._closing_of(text, begin)
            if closing is None:
                return
            yield self.decode(text[begin:closing].strip(), tools), closing + len(self.closing)
            at = text.find(self.opening, closing + len(self.closing))

    def _closing_of(self, text: str, begin: int) -> int | None:
        whole = self.end_of(text, begin)
        after = None if whole is None else after_space(text, whole)
        if after is not None and text.startswith(self.closing, after):
            return after
        first = text.find(self.closing, begin)
        return first if first >= 0 else None


def _canonical(call: ParsedCall) -> str | None:
    return None if call.problem is not None else json.dumps(call.arguments, sort_keys=True)


def after_space(text: str, start: int) -> int:
    """The first place from `start` on that is not white space."""
    space = _SPACE.match(text, start)
    return space.end() if space else start


def properties_of(name: str, tools: Sequence[Schema]) -> Mapping[str, Any]:
    """A tool's parameters by name; none of a tool that is not among `tools`."""
    for tool in tools:
        function = tool.get("function") or {}
        if function.get("name") == name:
            return (function.get("parameters") or {}).get("properties") or {}
    return {}
