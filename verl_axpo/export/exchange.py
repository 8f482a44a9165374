"""A trajectory as turns with their calls and answers, wherever it was kept.

    TrajectoryRecord (text with tags) -+
                                       +-> Conversation: question, pictures, [Exchange]
    RolloutRecord (turns)             -+

The trace has a response as one text. It is split where the chat format changes the speaker (ChatML, as Qwen's families
write it); another format stays one turn, with its calls.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from verl_axpo.eval.types import Question, Response, RolloutRecord
from verl_axpo.prompts import IMAGE
from verl_axpo.trace.records import ToolCall, TrajectoryRecord

_SPEAKER = re.compile(r"<\|im_end\|>\n?<\|im_start\|>\w+\n")
_END = re.compile(r"(?:<\|im_end\|>|<\|endoftext\|>)*\s*\Z")
_ANSWER = re.compile(r"<tool_response>\n?(.*?)\n?</tool_response>", re.DOTALL)
_PICTURE = re.compile(r"(?:<\|vision_start\|>)?(?:<\|image_pad\|>)+(?:<\|vision_end\|>)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A turn of the policy, and what its calls returned; a call that the limits left without an answer comes last."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    answers: tuple[Response, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A question with its pictures, and the turns that followed."""

    question: str
    images: tuple[str, ...]
    exchanges: tuple[Exchange, ...]


def of_record(record: TrajectoryRecord) -> Conversation:
    """A trajectory of a training; whose pictures are whose is told by the places that the text keeps for them."""
    parts = _SPEAKER.split(_END.sub("", record.text))
    own = len(_PICTURE.findall(record.text))
    asked, returned = record.images[: len(record.images) - own], iter(record.images[len(record.images) - own :])
    exchanges, calls = [], list(record.tool_calls)
    for at in range(0, len(parts), 2):
        answers = tuple(_answers(parts[at + 1], returned)) if at + 1 < len(parts) else ()
        last = at + 2 >= len(parts)
        made, calls = (calls, []) if last else (calls[: len(answers)], calls[len(answers) :])
        exchanges.append(Exchange(text=parts[at], calls=tuple(made), answers=answers))
    return Conversation(question=record.question, images=tuple(asked), exchanges=tuple(exchanges))


def of_rollout(rollout: RolloutRecord, question: Question) -> Conversation:
    """A rollout of an evaluation."""
    exchanges = (Exchange(text=turn.text, calls=turn.calls, answers=turn.responses) for turn in rollout.turns)
    prompt = question.prompt.replace(IMAGE, "").strip()
    return Conversation(question=prompt, images=question.image_paths, exchanges=tuple(exchanges))


def _answers(text: str, images: Iterator[str]) -> Iterator[Response]:
    """Of a turn of tools; one that does not look like any is one answer."""
    for body in _ANSWER.findall(text) or [text]:
        count = len(_PICTURE.findall(body))
        shown: Sequence[str] = [path for _, path in zip(range(count), images, strict=False)]
        yield Response(text=_PICTURE.sub("", body).strip(), images=tuple(shown))
