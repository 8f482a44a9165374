"""How a trajectory is written as messages: question -> messages; Completion -> text and calls -> messages again.

    TextConversation    the server returns raw text, tool calls in it: a checkpoint sees what it saw in training
    ServerConversation  the server parses and renders tool calls itself: hosted models

Both send the thinking of every turn.
"""

import base64
import json
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from verl_axpo import prompts
from verl_axpo.agent.calls import calls_in
from verl_axpo.agent.server import Completion, Message
from verl_axpo.agent.types import Response
from verl_axpo.errors import InfraFailure
from verl_axpo.images import ImageRefused, plain_file, png, size_of
from verl_axpo.tools.parser import ParsedCall, opened_think

Dialect = Literal["text", "server"]
Schema = dict[str, Any]

THINK = "<think>\n"  # what a thinking model's generation prompt ends with
TEMPLATE_TOKENS = 32  # more than a chat template puts around a message
_ENCODING = threading.Lock()  # the k rollouts of a question begin together, each in a thread: one of them encodes
CACHED_IMAGES = 64  # of questions in flight; an image of 8,000 pixels a side may have 20 MB


class Conversation(ABC):
    """The messages of one trajectory."""

    def __init__(self, question: str, images: Sequence[bytes], schemas: Sequence[Schema]) -> None:
        names = [schema["function"]["name"] for schema in schemas]
        system, user = prompts.prompt_messages(question, names)
        self.schemas = list(schemas)
        self.messages: list[Message] = [system, {**user, "content": _parts(user["content"], images)}]
        # At most so many tokens have come since the last request
        self.unseen = _token_bound(json.dumps(self.schemas), system["content"], user["content"])
        self.unseen += sum(_image_bound(size_of(image)) for image in images)

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Further fields of the next request."""

    @abstractmethod
    def read(self, completion: Completion) -> tuple[str, list[ParsedCall]]:
        """The turn's complete text, and its calls."""

    def add(self, completion: Completion, text: str, responses: Sequence[Response]) -> None:
        """Append the turn and what its first `len(responses)` calls returned."""
        self._add(completion, text, responses)
        self.unseen = _token_bound(*(response.text for response in responses))
        self.unseen += sum(_image_bound(image.size) for response in responses for image in response.images)

    @abstractmethod
    def _add(self, completion: Completion, text: str, responses: Sequence[Response]) -> None: ...


class TextConversation(Conversation):
    """Raw text both ways; the calls in it are found by training's rules, whatever parsers the server could offer."""

    def __init__(self, question: str, images: Sequence[bytes], schemas: Sequence[Schema]) -> None:
        super().__init__(question, images, schemas)
        self._opens_think: bool | None = None

    def options(self) -> dict[str, Any]:
        """Tools are rendered, not parsed; ids show whether a re-rendered conversation is what the policy wrote."""
        tools = {"tools": self.schemas, "tool_choice": "none"} if self.schemas else {}
        return {**tools, "return_token_ids": True, "return_prompt_text": True if self._opens_think is None else None}

    def read(self, completion: Completion) -> tuple[str, list[ParsedCall]]:
        text = completion.message.get("content") or ""
        thinking = _thinking(completion.message)
        if thinking is not None:  # the server has a reasoning parser: undo it
            text = f"{THINK}{thinking}\n</think>\n\n{text}"
        elif self._starts_in_think(completion, text):
            text = THINK + text
        return text, calls_in(text)

    def _add(self, completion: Completion, text: str, responses: Sequence[Response]) -> None:
        self.messages.append({"role": "assistant", "content": text})
        for response in responses:
            pictures = [image_part(png(image)) for image in response.images]
            words = [{"type": "text", "text": response.text}] if response.text else []
            content = [*pictures, *words] if pictures else response.text
            self.messages.append({"role": "tool", "content": content})

    def _starts_in_think(self, completion: Completion, text: str) -> bool:
        """Whether the generation prompt leaves `<think>` open: asked of the prompt, else read off the text."""
        if completion.prompt_text is not None:
            self._opens_think = bool(opened_think(completion.prompt_text))
        if self._opens_think is not None:
            return self._opens_think
        closing = text.find("</think>")
        return closing >= 0 and "<think>" not in text[:closing]


class ServerConversation(Conversation):
    """The API's own tool calls. Pictures follow in a user message: hosted models take none in a tool message."""

    def options(self) -> dict[str, Any]:
        return {"tools": self.schemas, "tool_choice": "auto"} if self.schemas else {}

    def read(self, completion: Completion) -> tuple[str, list[ParsedCall]]:
        thinking = _thinking(completion.message)
        text = "" if thinking is None else f"{THINK}{thinking}\n</think>\n\n"
        text += completion.message.get("content") or ""
        calls = [_parsed(call["function"]) for call in completion.message.get("tool_calls") or ()]
        written = [f"<tool_call>\n{call.raw}\n</tool_call>" for call in calls]
        return "\n".join(filter(None, [text, *written])), calls

    def _add(self, completion: Completion, text: str, responses: Sequence[Response]) -> None:
        calls = list(completion.message.get("tool_calls") or ())[: len(responses)]
        kept = ("content", "reasoning", "reasoning_content")
        said = {name: value for name, value in completion.message.items() if name in kept and value is not None}
        self.messages.append({"role": "assistant", **said, "tool_calls": calls})
        pictures: list[Message] = []
        for call, response in zip(calls, responses, strict=True):
            words = response.text or "The picture follows."
            self.messages.append({"role": "tool", "tool_call_id": call["id"], "content": words})
            pictures.extend(image_part(png(image)) for image in response.images)
        if pictures:
            self.messages.append({"role": "user", "content": pictures})


CONVERSATIONS: Mapping[str, type[Conversation]] = {"text": TextConversation, "server": ServerConversation}


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


def _token_bound(*texts: str) -> int:
    """No byte-level tokenizer makes more tokens than bytes; the template adds some around each message."""
    return sum(len(text.encode(errors="replace")) + TEMPLATE_TOKENS for text in texts)


def _image_bound(size: tuple[int, int]) -> int:
    """At most so many tokens for an image of Qwen's families: one per 28 x 28 pixels and fewer in later ones."""
    return (size[0] // 28 + 1) * (size[1] // 28 + 1) + TEMPLATE_TOKENS


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
    found = message.get("reasoning") or message.get("reasoning_content")
    return str(found).strip("\n") if found else None


def _parsed(function: Mapping[str, Any]) -> ParsedCall:
    """A call that the server parsed; its arguments are still the text that the model wrote."""
    name, written = str(function.get("name")), function.get("arguments") or "{}"
    raw = f'{{"name": {json.dumps(name)}, "arguments": {written}}}'
    return calls_in(f"<tool_call>{raw}</tool_call>")[0]
