"""Calls of SFT rows: rows hold them as JSON (hermes), whatever the teacher was -> the model's own syntax.

So one data set fits every model. A row whose calls are in the model's syntax already stays as it is.
"""

from collections.abc import Sequence

from verl_axpo.tools.syntax.base import CallSyntax, Schema
from verl_axpo.tools.syntax.hermes import Hermes

_ROWS = Hermes()


def in_syntax(text: str, syntax: CallSyntax, tools: Sequence[Schema], opened: str = "") -> str:
    """An assistant's turn with its calls in `syntax`; a call inside thinking is thought, and stays.

    Args:
        text: the whole turn, thinking included.
        syntax: the model's.
        tools: schemas of the row's tools: how an argument is written depends on its type.
        opened: what the generation prompt leaves open; a turn that never closes it is all thought.

    Raises:
        ValueError: a call that is neither hermes nor `syntax`, or whose arguments `syntax` cannot hold.
    """
    if isinstance(syntax, Hermes):
        return text
    thought = text.rfind(_ROWS.thinking[1])
    if thought < 0 and opened:
        return text
    pieces, at = [text[: max(thought, 0)]], max(thought, 0)
    while (start := text.find(_ROWS.opening, at)) >= 0:
        pieces.append(text[at:start])
        call, at = _call(text[start:], syntax, tools)
        pieces.append(call)
        at += start
    return "".join([*pieces, text[at:]])


def _call(text: str, syntax: CallSyntax, tools: Sequence[Schema]) -> tuple[str, int]:
    """The call at the beginning of the text as the model writes it, and where it ends."""
    call, end = next(_ROWS.calls_in(text), (None, 0))
    if call is not None and call.problem is None:
        return syntax.write(call.name, call.arguments, tools), end
    call, end = next(syntax.calls_in(text, tools), (None, 0))
    if call is not None and call.problem is None and text.startswith(syntax.opening):
        return text[:end], end
    raise ValueError(f"got the call {text[:80]!r}, expected hermes (JSON) or {syntax.name}, the model's call syntax")
