"""Tool calls in token ids: one assistant turn's ids -> where each call begins and ends -> name and arguments.

Working on ids, not on text, keeps the fork of AXPO exact: a prefix ends with the very id of the opening tag. A tag
inside `<think>` is thought, not acted; a closing tag inside a JSON string does not close. A call that cannot be decoded
is still a call: it carries the problem, which the policy gets as the tool's response.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>")


class Tokenizer(Protocol):
    """The two methods of a Hugging Face tokenizer that parsing needs."""

    def convert_tokens_to_ids(self, tokens: str) -> int | None: ...
    def decode(self, token_ids: list[int]) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSpan:
    """One call, in tokens of its turn: `[open, end)` from the opening tag through the closing one.

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


class ToolCallParser:
    """Parses the assistant turns of one tokenizer.

    Args:
        tokenizer: must know each of `TAGS` as a single token.
        starts_in_think: whether the generation prompt ends inside `<think>` (Qwen3-VL-Thinking: it does).

    Raises:
        ValueError: the tokenizer splits a tag, so that a prefix could not end exactly behind it.
    """

    def __init__(self, tokenizer: Tokenizer, *, starts_in_think: bool) -> None:
        ids = {tag: tokenizer.convert_tokens_to_ids(tag) for tag in TAGS}
        unknown = getattr(tokenizer, "unk_token_id", None)
        missing = [tag for tag, token_id in ids.items() if token_id is None or token_id == unknown]
        if missing:
            raise ValueError(
                f"tool-call parser: the tokenizer has no single token for {missing}, expected one for each of {TAGS}; "
                "use a model of the Qwen3 family or add the tags to its tokenizer"
            )
        self.tokenizer = tokenizer
        self.starts_in_think = starts_in_think
        self._think, self._end_think, self._open, self._close = (ids[tag] for tag in TAGS)

    def spans(self, token_ids: Sequence[int]) -> list[CallSpan]:
        """The calls of one turn (T,), in order; the last may lack its closing tag."""
        spans: list[CallSpan] = []
        thinking, position = self.starts_in_think, 0
        while position < len(token_ids):
            token_id = token_ids[position]
            if token_id in (self._think, self._end_think):
                thinking = token_id == self._think
            elif token_id == self._open and not thinking:
                spans.append(self._span_from(token_ids, position))
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

    def _span_from(self, token_ids: Sequence[int], start: int) -> CallSpan:
        """Ends at the first closing tag behind which the JSON is whole; failing that, at the first closing tag."""
        closings = [index for index in range(start + 1, len(token_ids)) if token_ids[index] == self._close]
        for index in closings:
            if _decode(self.tokenizer.decode(list(token_ids[start + 1 : index])).strip()).problem is None:
                return CallSpan(open=start, end=index + 1, closed=True)
        if closings:
            return CallSpan(open=start, end=closings[0] + 1, closed=True)
        return CallSpan(open=start, end=len(token_ids), closed=False)


def _decode(raw: str) -> ParsedCall:
    expected = 'expected {"name": <tool>, "arguments": {...}}'
    try:
        call = json.loads(raw)
    except ValueError as error:
        return ParsedCall(
            name="", arguments={}, raw=raw, problem=f"The tool call is not valid JSON ({error}); {expected}."
        )
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return ParsedCall(name="", arguments={}, raw=raw, problem=f"The tool call names no tool; {expected}.")
    arguments = call.get("arguments", {})
    if not isinstance(arguments, dict):
        problem = f"The arguments of {call['name']} are not a JSON object; {expected}."
        return ParsedCall(name="", arguments={}, raw=raw, problem=problem)
    return ParsedCall(name=call["name"], arguments=arguments, raw=raw)
