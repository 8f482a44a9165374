"""A response as a reader wants it: text -> parts, each of one kind. Tags in the wrong place stay text.

"so\n</think>\n<tool_call>{...}</tool_call><tool_response>7</tool_response>"
    -> thinking "so", mark "</think>", mark "<tool_call>", call "{...}", ..., response "7", ...
"""

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["thinking", "call", "response", "text", "mark", "image"]

_TAG = re.compile(
    r"<(/?)(think|tool_call|tool_response)>"
    r"|(?:<\|vision_start\|>)?(?P<image>(?:<\|image_pad\|>)+)(?:<\|vision_end\|>)?"
    r"|<\|im_start\|>\w+|<\|im_end\|>"
)
_INSIDE: dict[str, Kind] = {"think": "thinking", "tool_call": "call", "tool_response": "response"}


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a response. An `image` stands for the next image of the trajectory; a `mark` is a tag."""

    kind: Kind
    text: str


def split(text: str, *, thinking: bool) -> list[Part]:
    """The parts in order; joined, their texts are the whole text.

    Args:
        text: a response, special tokens included.
        thinking: whether it begins inside the thinking, which the prompt opened.
    """
    parts: list[Part] = []
    kind: Kind = "thinking" if thinking else "text"
    at = 0
    for tag in _TAG.finditer(text):
        closing, name = tag[1], tag[2]
        follows = _INSIDE.get(name or "")
        if follows and (kind != follows if closing else kind != "text"):
            continue  # inside thinking, a call or a response only its own end counts
        parts += [Part(kind, text[at : tag.start()]), Part("image" if tag["image"] else "mark", tag[0])]
        at = tag.end()
        if follows:
            kind = "text" if closing else follows
    return [part for part in (*parts, Part(kind, text[at:])) if part.text]
