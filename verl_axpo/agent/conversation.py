"""A trajectory as messages: question -> messages -> Completion -> text and calls -> messages again.

    TextConversation    the server returns raw text, tool calls in it: a checkpoint sees what it saw in training
    ServerConversation  the server parses and renders tool calls itself: hosted models

Both send the thinking of every turn. Calls in text are read by the rules that training applies to token ids.
"""

import base64
import json
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal

from PIL import Image

from verl_axpo import prompts
from verl_axpo.agent.client import Completion, Message
from verl_axpo.errors import InfraFailure
from verl_axpo.images import ImageRefused, plain_file, png, size_of
from verl_axpo.tools.chat_format import ChatFormat, format_in
from verl_axpo.tools.parser import ToolCallParser
from verl_axpo.tools.syntax import HERMES, CallSyntax, ParsedCall, Schema, syntaxes

Dialect = Literal["text", "server"]
Answered = tuple[str, Sequence[Image.Image]]  # what a call returned: text, pictures

THINK = "<think>\n"  # what a thinking model's generation prompt ends with
TEMPLATE_TOKENS = 32  # more than a chat template puts around a message
CACHED_IMAGES = 64  # of questions in flight; an image of 8,000 pixels a side may have 20 MB
_ENCODING = threading.Lock()  # the k rollouts of a question begin together, each in a thread: one of them encodes


class TextConversation:
    """Raw text both ways: training's rules find the calls in it, whatever parsers the server could offer.

    Args:
        question: the user turn; `<image>` stands for the next of `images`.
        images: encoded files.
        tools: what the policy is told of them.
        template: kwargs of the server's chat template; {} sends none.

    Raises:
        ValueError: another number of images than `<image>`.
        InfraFailure: a file that is no picture.
    """

    def __init__(
        self,
        question: str,
        images: Sequence[bytes],
        tools: Sequence[prompts.ToolPrompt],
        template: Mapping[str, Any] | None = None,
    ) -> None:
        system, user = prompts.prompt_messages(question, tools)
        self.schemas, self.template = prompts.tool_schemas(tools), dict(template or {})
        self.messages: list[Message] = [system, {**user, "content": _parts(user["content"], images)}]
        # An upper bound of the tokens that have come since the last request
        texts = (json.dumps(self.schemas), system["content"], user["content"])
        self.unseen = _token_bound(texts, map(size_of, images))
        self.format: ChatFormat | None = None  # known from the first prompt, if the server shows it

    def options(self) -> dict[str, Any]:
        """Further fields of the next request. Tools are rendered, not parsed; ids show whether a conversation that is
        rendered again is what the policy wrote."""
        tools = {"tools": self.schemas, "tool_choice": "none"} if self.schemas else {}
        prompt = {"return_prompt_text": True if self.format is None else None}
        return {**tools, **self._kwargs(), **prompt, "return_token_ids": True}

    def read(self, completion: Completion) -> tuple[str, list[ParsedCall]]:
        """The turn's complete text, and its calls."""
        text, thinking = completion.message.get("content") or "", _thinking(completion.message)
        if thinking is not None:  # the server has a reasoning parser: undo it
            text = f"{THINK}{thinking}\n</think>\n\n{text}"
        elif self._starts_in_think(text):
            text = (self.format.opened if self.format else THINK) + text
        return text, calls_in(text, self.format.syntax if self.format else shown_in(text), self.schemas)

    def announces(self, completion: Completion) -> bool:
        """Look at the format of the first prompt. False: the server's template leaves the tools out, so they are in the
        system prompt from now on, and the request has to be sent again.

        Raises:
            InfraFailure: the template's call syntax is unknown, so that no call could be read.
        """
        if self.format is not None or completion.prompt_text is None:
            return True
        try:
            self.format = format_in(completion.prompt_text, self.schemas)
        except ValueError as error:
            raise InfraFailure(f"the server's chat template: {error}") from error
        if self.format.announces:
            return True
        self.messages = self.format.with_tools(self.messages, self.schemas)
        self.format = replace(self.format, announces=True)
        return False

    def add(self, completion: Completion, text: str, answers: Sequence[Answered]) -> None:
        """Append the turn and what its first `len(answers)` calls returned."""
        self._add(completion, text, answers)
        sizes = (picture.size for _, pictures in answers for picture in pictures)
        self.unseen = _token_bound((words for words, _ in answers), sizes)

    def _add(self, completion: Completion, text: str, answers: Sequence[Answered]) -> None:
        self.messages.append({"role": "assistant", "content": text})
        for words, pictures in answers:
            parts = [image_part(png(picture)) for picture in pictures]
            content = [*parts, *([{"type": "text", "text": words}] if words else [])] if parts else words
            self.messages.append({"role": "tool", "content": content})

    def _kwargs(self) -> dict[str, Any]:
        return {"chat_template_kwargs": self.template} if self.template else {}

    def _starts_in_think(self, text: str) -> bool:
        """Whether the generation prompt leaves thinking open: the prompt says it, else the text."""
        if self.format is not None:
            return bool(self.format.opened)
        closing = text.find("</think>")
        return closing >= 0 and "<think>" not in text[:closing]


class ServerConversation(TextConversation):
    """The API's own tool calls. Pictures follow in a user message: hosted models take none in a tool message."""

    def options(self) -> dict[str, Any]:
        """Further fields of the next request."""
        return {**({"tools": self.schemas, "tool_choice": "auto"} if self.schemas else {}), **self._kwargs()}

    def read(self, completion: Completion) -> tuple[str, list[ParsedCall]]:
        """The turn's complete text, and its calls."""
        thinking = _thinking(completion.message)
        text = "" if thinking is None else f"{THINK}{thinking}\n</think>\n\n"
        text += completion.message.get("content") or ""
        calls = [_parsed(call["function"]) for call in completion.message.get("tool_calls") or ()]
        written = [f"<tool_call>\n{call.raw}\n</tool_call>" for call in calls]
        return "\n".join(filter(None, [text, *written])), calls

    def _add(self, completion: Completion, text: str, answers: Sequence[Answered]) -> None:
        calls = list(completion.message.get("tool_calls") or ())[: len(answers)]
        kept = ("content", "reasoning", "reasoning_content")
        said = {name: value for name, value in completion.message.items() if name in kept and value is not None}
        self.messages.append({"role": "assistant", **said, "tool_calls": calls})
        for call, (words, _) in zip(calls, answers, strict=True):
            content = words or "The picture follows."
            self.messages.append({"role": "tool", "tool_call_id": call["id"], "content": content})
        parts = [image_part(png(picture)) for _, pictures in answers for picture in pictures]
        if parts:
            self.messages.append({"role": "user", "content": parts})


CONVERSATIONS: Mapping[str, type[TextConversation]] = {"text": TextConversation, "server": ServerConversation}


class TaggedText:
    """The tokenizer of one text: ids 0 to 3 are the tags, higher ids number the stretches between them.

    `ToolCallParser` reads ids, and only asks where tags are and what stands between them: made of the text itself they
    lead to the same calls as the policy's own.
    """

    def __init__(self, text: str, syntax: CallSyntax = HERMES) -> None:
        self._tags = syntax.tags
        pieces = [piece for piece in _pieces(self._tags).split(text) if piece]
        self._pieces = [*self._tags, *(piece for piece in pieces if piece not in self._tags)]
        numbers = iter(range(len(self._tags), len(self._pieces)))
        self.ids = [self._tags.index(piece) if piece in self._tags else next(numbers) for piece in pieces]

    def convert_tokens_to_ids(self, tokens: str) -> int | None:
        """As a Hugging Face tokenizer's, for the tags."""
        return self._tags.index(tokens) if tokens in self._tags else None

    def decode(self, token_ids: list[int]) -> str:
        """The text of the ids."""
        return "".join(self._pieces[token_id] for token_id in token_ids)


@lru_cache
def _pieces(tags: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("(" + "|".join(re.escape(tag) for tag in tags) + ")")


def calls_in(text: str, syntax: CallSyntax = HERMES, tools: Sequence[Schema] = ()) -> list[ParsedCall]:
    """The calls of one complete assistant turn, in order; an undecodable call carries its problem."""
    tokens = TaggedText(text, syntax)
    parser = ToolCallParser(tokens, starts_in_think=False, syntax=syntax)
    return [parser.parse(tokens.ids, span, tools) for span in parser.spans(tokens.ids)]


def shown_in(text: str) -> CallSyntax:
    """The syntax of a turn's calls, from a server that shows no prompt; hermes if nothing tells."""
    shown = [known for known in syntaxes().values() if known.sign.search(text)]
    return shown[0] if len(shown) == 1 else HERMES


def image_part(data: bytes) -> Message:
    """An encoded image as a part of a message.

    Raises:
        InfraFailure: a file that is no picture; nobody can answer its question.
    """
    with _ENCODING:
        return {"type": "image_url", "image_url": {"url": _data_uri(data)}}


@lru_cache(maxsize=CACHED_IMAGES)
def _data_uri(data: bytes) -> str:
    """Cached: the k rollouts of a question, each of several requests, send the same picture."""
    try:
        plain = plain_file(data)
    except ImageRefused as error:
        raise InfraFailure(f"an image of the question cannot be read: {error}") from error
    return f"data:{plain.mime};base64,{base64.b64encode(plain.data).decode()}"


def _token_bound(texts: Iterable[str], sizes: Iterable[tuple[int, int]]) -> int:
    """An upper bound of the tokens of texts, and of images of Qwen's families (a token per 28 x 28 pixels, fewer in
    later ones). No byte-level tokenizer makes more tokens than bytes; the template adds some around each message."""
    words = sum(len(text.encode(errors="replace")) + TEMPLATE_TOKENS for text in texts)
    return words + sum((width // 28 + 1) * (height // 28 + 1) + TEMPLATE_TOKENS for width, height in sizes)


def _parts(text: str, images: Sequence[bytes]) -> str | list[Message]:
    """`<image>` by `<image>` as verl's dataset splits a prompt; plain text where there is none."""
    pieces = [piece for piece in re.split("(<image>)", text) if piece]
    wanted = pieces.count("<image>")
    if wanted != len(images):
        raise ValueError(f"question: got {len(images)} images for {wanted} <image> in its text, expected as many")
    if not images:
        return text
    pictures = iter(images)
    return [image_part(next(pictures)) if piece == "<image>" else {"type": "text", "text": piece} for piece in pieces]


def _thinking(message: Mapping[str, Any]) -> str | None:
    """What a reasoning parser has taken out of the text: vLLM calls it `reasoning`, others `reasoning_content`."""
    thought = message.get("reasoning") or message.get("reasoning_content")
    return str(thought).strip("\n") if thought else None


def _parsed(function: Mapping[str, Any]) -> ParsedCall:
    """A call that the server parsed; its arguments are still the text that the model wrote."""
    name, written = str(function.get("name")), function.get("arguments") or "{}"
    raw = f'{{"name": {json.dumps(name)}, "arguments": {written}}}'
    return calls_in(f"<tool_call>{raw}</tool_call>")[0]
