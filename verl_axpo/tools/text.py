"""Text on its way into a conversation: what the policy wrote, repeated in an error, and what others wrote.

    policy's argument  -> quoted() -> error message
    web page, document -> inert()  -> tool response

A chat template tokenizes tool responses with special tokens on: a page that says `<|image_pad|>` would add an image
token without an image, one that says `<|im_end|>` would end the turn.
"""

import re
from typing import Any

QUOTED_CHARS = 120  # of a bad argument repeated to the policy: enough to recognise it, whatever its length
_MARKER = re.compile(r"<(?=\||/?(?:think|tool_call|tool_response|answer|image|video|audio)>)")


def utf8(text: str) -> str:
    """`text` with `?` for what UTF-8 has no bytes for: lone surrogates, which JSON can spell and tokenizers refuse."""
    return text.encode("utf-8", "replace").decode("utf-8")


def inert(text: str) -> str:
    """`utf8(text)` with a space behind the `<` of every chat marker, so that no special token is read into it."""
    return _MARKER.sub("< ", utf8(text))


def quoted(value: Any) -> str:
    """A policy's argument as an error message shows it: its repr, cut, and inert.

    Never raises: a number of 5,000 digits, which JSON allows and Python does not print, is named by its type.
    """
    try:
        shown = repr(value)
    except ValueError:
        return f"a huge {type(value).__name__}"
    return inert(shown if len(shown) <= QUOTED_CHARS else shown[:QUOTED_CHARS] + "...")
