"""A conversation in Inspect's words: question, turns and answers of tools -> ChatMessage each, pictures inside."""

import base64
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    Content,
    ContentImage,
    ContentReasoning,
    ContentText,
)
from inspect_ai.tool import ToolCall, ToolCallError

from verl_axpo.export.exchange import Conversation
from verl_axpo.files import inside
from verl_axpo.images import ImageRefused, plain_file
from verl_axpo.report.viewer import OPENING_TAG
from verl_axpo.trace.records import ToolCall as MadeCall


def asked(conversation: Conversation, folder: Path, system: str | None = None) -> list[ChatMessage]:
    """What comes before the policy's first turn: the system prompt, if it is known, and the question."""
    question = [*_pictures(conversation.images, folder), ContentText(text=conversation.question)]
    return [*([ChatMessageSystem(content=system)] if system else []), ChatMessageUser(content=question)]


def answered(conversation: Conversation, folder: Path) -> Iterator[ChatMessage]:
    """The policy's turns, each with what its calls returned."""
    numbers = count(1)
    for exchange in conversation.exchanges:
        calls = [(f"call_{next(numbers)}", call) for call in exchange.calls]
        yield ChatMessageAssistant(
            content=_spoken(exchange.text, called=bool(calls)),
            tool_calls=[_call(identity, call) for identity, call in calls] or None,
        )
        for (identity, call), answer in zip(calls, exchange.answers, strict=False):
            yield ChatMessageTool(
                content=[ContentText(text=answer.text), *_pictures(answer.images, folder)],
                tool_call_id=identity,
                function=call.name,
                error=None if call.ok else ToolCallError("unknown", call.error or "failed"),
            )
        for answer in exchange.answers[len(calls) :]:  # to what was no call
            yield ChatMessageUser(content=[ContentText(text=answer.text), *_pictures(answer.images, folder)])


def _spoken(text: str, *, called: bool) -> list[Content]:
    """Thinking and words apart; a call that Inspect shows itself is left out."""
    thinking, closed, words = text.rpartition("</think>")
    if called and OPENING_TAG in words:
        words = words.partition(OPENING_TAG)[0]
    parts: list[Content] = []
    if closed:
        parts.append(ContentReasoning(reasoning=thinking.removeprefix("<think>").strip()))
    # Not an empty text: Inspect puts "(no content)" in its place
    return [*parts, *([ContentText(text=words.strip())] if words.strip() else [])]


def _call(identity: str, call: MadeCall) -> ToolCall:
    arguments = call.arguments if isinstance(call.arguments, dict) else {"raw": call.arguments}
    undecodable = None if call.name else call.error
    return ToolCall(id=identity, function=call.name or "undecodable", arguments=arguments, parse_error=undecodable)


def _pictures(paths: Sequence[str], folder: Path) -> list[Content]:
    """In the log itself, so that it can be sent elsewhere; one that is not there is named."""
    return [_picture(path, folder) for path in paths]


def _picture(path: str, folder: Path) -> Content:
    try:
        file = plain_file(inside(folder, path).read_bytes())
    except (OSError, ImageRefused, ValueError) as error:
        return ContentText(text=f"[no picture: {error}]")
    return ContentImage(image=f"data:{file.mime};base64,{base64.b64encode(file.data).decode()}")
