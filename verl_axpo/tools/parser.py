"""Tool calls in token ids: one assistant turn's ids -> where each call begins and ends -> name and arguments.

Working on ids, not on text, keeps the fork of AXPO exact: a prefix ends with the very id of the opening tag. A tag
inside thinking is thought, not acted; a closing tag inside an argument does not close. A call that cannot be decoded is
still a call: it carries the problem, which the policy gets as the tool's response.

What a call looks like between its tags is the model family's `CallSyntax` (`verl_axpo.tools.syntax`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from verl_axpo.tools.syntax import HERMES, CallSyntax, ParsedCall, Schema
from verl_axpo.tools.syntax.base import after_space


class Tokenizer(Protocol):
    """The two methods of a Hugging Face tokenizer that parsing needs."""

    def convert_tokens_to_ids(self, tokens: str) -> int | None: ...
    def decode(self, token_ids: list[int]) -> str: ...


def opened_think(generation_prompt: str, thinking: tuple[str, str] = HERMES.thinking) -> str:
    """The `<think>` that the prompt leaves open, so that a turn's text begins with it although no policy wrote it."""
    opening = generation_prompt.rfind(thinking[0])
    return generation_prompt[opening:] if opening > generation_prompt.rfind(thinking[1]) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSpan:
    """A call in tokens of its turn: `[open, end)` from the opening tag through the closing one.

    Example: ids `</think> <tool_call> {...} </tool_call> <|im_end|>` give `CallSpan(open=1, end=4, closed=True)`
    """

    open: int
    end: int
    closed: bool


@dataclass(slots=True, kw_only=True)
class _TaggedText:
    """A turn's text up to its last tag, and where its tags are: characters of the text, tokens of the turn."""

    text: str = ""
    after: dict[int, int] = field(default_factory=dict)  # token of a tag -> where the text after it begins
    closings: dict[int, int] = field(default_factory=dict)  # where a closing tag begins -> its token


class ToolCallParser:
    """Parses the assistant turns of one tokenizer.

    Args:
        tokenizer: must know the tags of a call as single tokens, and those of thinking if it knows either.
        starts_in_think: whether the generation prompt ends inside thinking (Qwen3-VL-Thinking: it does).
        syntax: how the model writes calls.

    Raises:
        ValueError: the tokenizer splits a tag, so that a prefix could not end exactly after it.
    """

    def __init__(self, tokenizer: Tokenizer, *, starts_in_think: bool, syntax: CallSyntax = HERMES) -> None:
        self.tokenizer, self.starts_in_think, self.syntax = tokenizer, starts_in_think, syntax
        ids = tag_ids(tokenizer, syntax, starts_in_think)
        self._think, self._end_think = (ids.get(tag) for tag in syntax.thinking)
        self._open, self._close = ids[syntax.opening], ids[syntax.closing]

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

    def parse(self, token_ids: Sequence[int], span: CallSpan, tools: Sequence[Schema] = ()) -> ParsedCall:
        """Decode the call at `span`. Never raises on what a policy may write: the problem is in the result.

        Args:
            tools: OpenAI function schemas, which say how an argument's text is to be read where it has no type itself.
        """
        inner = token_ids[span.open + 1 : span.end - span.closed]
        raw = self.tokenizer.decode(list(inner)).strip()
        if not span.closed:
            problem = f"The tool call was not closed with {self.syntax.closing}."
            return ParsedCall(name="", arguments={}, raw=raw, problem=problem)
        return self.syntax.decode(raw, tools)

    def _span_from(self, token_ids: Sequence[int], start: int, text: _TaggedText) -> CallSpan:
        """Ends at the closing tag that comes after a whole call; failing that, at the first closing tag."""
        first = next((at for at in range(start + 1, len(token_ids)) if token_ids[at] == self._close), None)
        if first is None:
            return CallSpan(open=start, end=len(token_ids), closed=False)
        whole = self.syntax.end_of(text.text, text.after[start])
        closing = None if whole is None else text.closings.get(after_space(text.text, whole))
        return CallSpan(open=start, end=(first if closing is None else closing) + 1, closed=True)

    def _text_from(self, token_ids: Sequence[int], start: int) -> _TaggedText:
        """The turn's text from an opening tag on, every token of it decoded once."""
        pieces, begin, length, text = list[str](), start, 0, _TaggedText()
        for at in range(start, len(token_ids)):
            if token_ids[at] not in (self._open, self._close):
                continue
            between = self.tokenizer.decode(list(token_ids[begin:at])) if begin < at else ""
            length += len(between)
            tag = self.syntax.opening if token_ids[at] == self._open else self.syntax.closing
            if tag == self.syntax.closing:
                text.closings[length] = at
            length, begin = length + len(tag), at + 1
            text.after[at] = length
            pieces += [between, tag]
        text.text = "".join(pieces)
        return text


def tag_ids(tokenizer: Tokenizer, syntax: CallSyntax, starts_in_think: bool = False) -> dict[str, int]:
    """The token of each tag. Those of thinking are missing together for a model that does not think.

    Raises:
        ValueError: the tokenizer splits a tag of a call, or a single tag of thinking, or thinking that a prompt opens.
    """
    unknown = getattr(tokenizer, "unk_token_id", None)
    found = {tag: tokenizer.convert_tokens_to_ids(tag) for tag in syntax.tags}
    ids = {tag: token_id for tag, token_id in found.items() if token_id is not None and token_id != unknown}
    missing = [tag for tag in syntax.tags if tag not in ids]
    if missing and (starts_in_think or missing != list(syntax.thinking)):
        raise ValueError(
            f"tool-call parser: the tokenizer has no single token for {missing}, but each of {syntax.tags} must be "
            "one; use a model of the Qwen3 family or add the tags to its tokenizer"
        )
    return ids
