"""Text on its way into a conversation: what the policy wrote, repeated in an error, and what others wrote.

    policy's argument  -> finite()      -> number, or None
    policy's argument  -> quoted()      -> error message
    web page, document -> inert()       -> tool response
    policy's answer    -> quoted_json() -> the judge's prompt

A chat template tokenizes its messages with special tokens on: a page that says `<|image_pad|>` would add an image token
without an image, one that says `<|im_end|>` would end the turn.
"""

import json
import math
import re
from numbers import Real
from typing import Any

QUOTED_CHARS = 120  # of a bad argument repeated to the policy: enough to recognise it, whatever its length
# The first character of a control mark, by its form and not by its name, so that no model family has to be known:
# `<` and what is neither space nor arithmetic (<|im_end|>, <turn|>, </s>, <think>); brackets around a word in capitals
# ([INST], [/INST], [gMASK]); a bracket next to a tilde (]~b], [e~[).
_MARK = re.compile(r"<(?=[^\s\d=<-])|\[(?=/?[a-z]?[A-Z][A-Z\d_]+\])|[\[\]](?=~)|~(?=[\[\]])")


def utf8(text: str) -> str:
    """`text` with `?` for what UTF-8 has no bytes for: lone surrogates, which JSON can spell and tokenizers refuse."""
    return text.encode("utf-8", "replace").decode("utf-8")


def inert(text: str) -> str:
    """`utf8(text)` with a space after the first character of every control mark: no special token is read into it.

    Example: `inert("<|im_end|> if a < b") == "< |im_end|> if a < b"`
    """
    return _MARK.sub(r"\g<0> ", utf8(text))


def quoted_json(value: Any) -> str:
    """One line of JSON, the same value as ever, in which no control mark is left: each is begun by a `\\u` escape.

    Example: `quoted_json({"a": "<s>"}) == '{"a": "\\\\u003cs>"}'`
    """
    text = utf8(json.dumps(value, ensure_ascii=False))
    return _MARK.sub(lambda mark: f"\\u{ord(mark[0]):04x}", text)


def quoted(value: Any) -> str:
    """A policy's argument as an error message shows it: its repr, cut, and inert.

    Never raises: a number of 5,000 digits, which JSON allows and Python does not print, is named by its type.
    """
    try:
        shown = repr(value)
    except ValueError:
        return f"a huge {type(value).__name__}"
    return inert(shown if len(shown) <= QUOTED_CHARS else shown[:QUOTED_CHARS] + "...")


def finite(value: Any) -> float | None:
    """A policy's argument as a number; None if it is something else, a whole number of 400 digits for example."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
