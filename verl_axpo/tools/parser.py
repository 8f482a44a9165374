"""Tool calls in token ids: one assistant turn's ids -> where each call begins and ends -> name and arguments.

Working on ids, not on text, keeps the fork of AXPO exact: a prefix ends with the very id of the opening tag. A tag
inside `<think>` is thought, not acted; a closing tag inside a JSON string does not close. A call that cannot be decoded
is still a call: it carries the problem, which the policy gets as the tool's response.

The syntax is Qwen's: JSON between TAGS. Another syntax brings its own tags and its own `_decode`; spans stay as they
are.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
EXPECTED = 'expected {"name": <tool>, "arguments": {...}}'  # of every undecodable call
_JSON = json.JSONDecoder()
_SPACE = re.compile(r"\s*")


class Tokenizer(Protocol):
    """The two methods of a Hugging Face tokenizer that parsing needs."""

    def convert_tokens_to_ids(self, tokens: str) -> int | None: ...
    def decode(self, token_ids: list[int]) -> str: ...


def opened_think(generation_prompt: str) -> str:
    """The `<think>` that the prompt leaves open, so that a turn's text begins with it although no policy wrote it."""
    opening = generation_prompt.rfind("<think>")
    return generation_prompt[opening:] if opening > generation_prompt.rfind("</think>") else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSpan:
    """A call in tokens of its turn: `[open, end)` from the opening tag through the closing one.

    Example: ids `</think> <tool_call> {...} </tool_call> <|im_end|>` give `CallSpan(open=1, end=4, closed=True)`
    """

    open: int
    end: int
    closed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedCall:
    """A decoded call, or why it could not be decoded (`problem` is a message for the policy)."""

    name: str
    arguments: dict[str, Any]
    raw: str
    problem: str | None = None


@dataclass(slots=True, kw_only=True)
class _TaggedText:
    """A turn's text up to its last tag, and where its tags are: characters of the text, tokens of the turn."""

    text: str = ""
    after: dict[int, int] = field(default_factory=dict)  # token of a tag -> where the text after it begins
    closings: dict[int, int] = field(default_factory=dict)  # where a closing tag begins -> its token

    def closing_of_whole_call(self, start: int) -> int | None:
        """The closing tag directly after a whole call that begins at the opening tag `start`; None: no such call.

        The JSON says itself where it ends, so no other closing tag need be tried: a tag inside a string is passed over,
        and at a tag outside the JSON is invalid. Of two calls only one can be read beyond the end of the second, for a
        quote that opens a string for one closes it for the other: reading from every opening tag of a turn is linear.
        """
        begin = _after_space(self.text, self.after[start])
        if not self.text.startswith("{", begin):
            return None
        try:
            call, end = _JSON.raw_decode(self.text, begin)
        except (ValueError, RecursionError):
            return None
        return None if _problem_of(call) else self.closings.get(_after_space(self.text, end))


class ToolCallParser:
    """Parses the assistant turns of one tokenizer.

    Args:
        tokenizer: must know each of `TAGS` as a single token.
        starts_in_think: whether the generation prompt ends inside `<think>` (Qwen3-VL-Thinking: it does).

    Raises:
        ValueError: the tokenizer splits a tag, so that a prefix could not end exactly after it.
    """

    def __init__(self, tokenizer: Tokenizer, *, starts_in_think: bool) -> None:
        ids = {tag: tokenizer.convert_tokens_to_ids(tag) for tag in TAGS}
        unknown = getattr(tokenizer, "unk_token_id", None)
        missing = [tag for tag, token_id in ids.items() if token_id is None or token_id == unknown]
        if missing:
            raise ValueError(
                f"tool-call parser: the tokenizer has no single token for {missing}, but each of {TAGS} must be one; "
                "use a model of the Qwen3 family or add the tags to its tokenizer"
            )
        self.tokenizer = tokenizer
        self.starts_in_think = starts_in_think
        self._think, self._end_think, self._open, self._close = (ids[tag] for tag in TAGS)

    def spans(self, token_ids: Sequence[int]) -> list[CallSpan]:
        """The calls of one turn (T,), in order; the last may lack its closing tag. The cost is linear in T."""
        spans: list[CallSpan] = []
        thinking, position, text = self.starts_in_think, 0, _TaggedText()
        while position < len(token_ids):
            token_id = token_ids[position]
            if token_id in (self._think, self._end_think):
                thinking = token_id == self._think
            elif token_id == self._open and not thinking:
                text = text if spans else self._text_from(token_ids, position)
                spans.append(self._span_from(token_ids, position, text))
                position = spans[-1].end
                continue
            position += 1
        return spans

    def parse(self, token_ids: Sequence[int], span: CallSpan) -> ParsedCall:
        """Decode the call at `span`. Never raises on what a policy may write: the problem is in the result."""
        inner = token_ids[span.open + 1 : span.end - span.closed]
        raw = self.tokenizer.decode(list(inner)).strip()
        if not span.closed:
            return ParsedCall(name="", arguments={}, raw=raw, problem="The tool call was not closed with </tool_call>.")
        return _decode(raw)

    def _span_from(self, token_ids: Sequence[int], start: int, text: _TaggedText) -> CallSpan:
        """Ends at the closing tag that comes after whole JSON; failing that, at the first closing tag."""
        first = next((at for at in range(start + 1, len(token_ids)) if token_ids[at] == self._close), None)
        if first is None:
            return CallSpan(open=start, end=len(token_ids), closed=False)
        whole = text.closing_of_whole_call(start)
        return CallSpan(open=start, end=(first if whole is None else whole) + 1, closed=True)

    def _text_from(self, token_ids: Sequence[int], start: int) -> _TaggedText:
        """The turn's text from an opening tag on, every token of it decoded once."""
        pieces, begin, length, text = list[str](), start, 0, _TaggedText()
        for at in range(start, len(token_ids)):
            if token_ids[at] not in (self._open, self._close):
                continue
            between = self.tokenizer.decode(list(token_ids[begin:at])) if begin < at else ""
            length += len(between)
            tag = TAGS[2] if token_ids[at] == self._open else TAGS[3]
            if tag == TAGS[3]:
                text.closings[length] = at
            length, begin = length + len(tag), at + 1
            text.after[at] = length
            pieces += [between, tag]
        text.text = "".join(pieces)
        return text


def _decode(raw: str) -> ParsedCall:
    try:
        call = json.loads(raw)
    except (ValueError, RecursionError) as error:
        problem: str | None = f"The tool call is not valid JSON ({error}); {EXPECTED}."
    else:
        problem = _problem_of(call)
    if problem is not None:
        return ParsedCall(name="", arguments={}, raw=raw, problem=problem)
    return ParsedCall(name=call["name"], arguments=call.get("arguments", {}), raw=raw)


def _problem_of(call: Any) -> str | None:
    """What a decoded JSON value lacks to be a call."""
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return f"The tool call names no tool; {EXPECTED}."
    if not isinstance(call.get("arguments", {}), dict):
        return f"The arguments of {call['name']} are not a JSON object; {EXPECTED}."
    return None


def _after_space(text: str, start: int) -> int:
    space = _SPACE.match(text, start)
    return space.end() if space else start
