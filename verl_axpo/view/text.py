"""A response as a reader wants it: text -> parts, each of one kind. Tags in the wrong place stay text.

"so\n</think>\n<tool_call>{...}</tool_call><tool_response>7</tool_response>"
    -> thinking "so", mark "</think>", opening "<tool_call>", call "{...}", ..., response "7", ...
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from verl_axpo.tools.syntax import HERMES, CallSyntax

Kind = Literal["thinking", "call", "response", "text", "opening", "mark", "image"]

RESPONSE = ("<tool_response>", "</tool_response>")
_IMAGES = r"(?:<\|vision_start\|>)?(?:<\|image_pad\|>)+(?:<\|vision_end\|>)?"
_TURNS = r"<\|im_start\|>\w+|<\|im_end\|>"


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a response. An `image` stands for the next image of the trajectory; an `opening` begins a call."""

    kind: Kind
    text: str


def split(text: str, *, thinking: bool, syntax: CallSyntax = HERMES) -> list[Part]:
    """The parts in order; joined, their texts are the whole text.

    Args:
        text: a response, special tokens included.
        thinking: whether it begins inside the thinking, which the prompt opened.
        syntax: in which the model calls tools.
    """
    opens: dict[str, Kind] = {syntax.thinking[0]: "thinking", syntax.opening: "call", RESPONSE[0]: "response"}
    ends: dict[str, Kind] = {syntax.thinking[1]: "thinking", syntax.closing: "call", RESPONSE[1]: "response"}
    parts: list[Part] = []
    kind: Kind = "thinking" if thinking else "text"
    at = 0
    for tag in _tags(syntax).finditer(text):
        name = tag[0]
        if (name in opens and kind != "text") or (name in ends and kind != ends[name]):
            continue  # inside thinking, a call or a response only its own end counts
        mark: Kind = "image" if tag["image"] else "opening" if opens.get(name) == "call" else "mark"
        parts += [Part(kind, text[at : tag.start()]), Part(mark, name)]
        at = tag.end()
        kind = opens.get(name, "text" if name in ends else kind)
    return [part for part in (*parts, Part(kind, text[at:])) if part.text]


@cache
def _tags(syntax: CallSyntax) -> re.Pattern[str]:
    names = (*syntax.thinking, syntax.opening, syntax.closing, *RESPONSE)
    return re.compile(f"{'|'.join(map(re.escape, names))}|(?P<image>{_IMAGES})|{_TURNS}")
