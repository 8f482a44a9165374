"""What an evaluation keeps on disk, as data: questions, rollouts, scores; to a line of JSON and back.

    Question -> QuestionRecord   Trajectory -> RolloutRecord   Score -> ScoreRecord, about one line of a rollout

A rollout and its score are separate lines: a rollout is safe on disk before a judge has read it, and can be scored
again without being sampled again.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

import orjson

from verl_axpo.core.types import Status
from verl_axpo.eval import versions
from verl_axpo.eval.types import AnswerType, Question, Score
from verl_axpo.trace.records import ToolCall

Key = tuple[str, str, int]  # benchmark, uid, rollout

HASH_CHARACTERS = 32  # 128 bits of SHA-256
IMAGE_SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp", b"GIF8": ".gif"}
NUMBER = (int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionRecord:
    """A question as a reader of the report needs it; `images` are paths relative to the evaluation's folder."""

    benchmark: str
    uid: str
    prompt: str
    ground_truth: str
    answer_type: AnswerType
    images: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRecord:
    """What a call returned; `images` are paths relative to the evaluation's folder."""

    text: str
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRecord:
    """See `verl_axpo.agent.types.Turn`."""

    text: str
    calls: tuple[ToolCall, ...]
    responses: tuple[ResponseRecord, ...]
    unanswered: int
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    seconds: float

    def __post_init__(self) -> None:
        numbers = dict.fromkeys(("unanswered", "prompt_tokens", "completion_tokens", "seconds"), NUMBER)
        _check(self, {"text": str, **numbers})
        for call in self.calls:
            _check(call, {"name": str, "seconds": NUMBER})


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRecord:
    """One rollout of one question; `answer` is what the scorer is asked about, None when there is none."""

    benchmark: str
    uid: str
    rollout: int
    status: Status
    answer: str | None
    uses_tool: bool
    response_tokens: int
    turns: tuple[TurnRecord, ...]
    error: str | None = None
    token_exact: bool | None = None
    started: float
    finished: float

    def __post_init__(self) -> None:
        _check(self, dict.fromkeys(("rollout", "response_tokens", "started", "finished"), NUMBER))
        _check(self, {"answer": (str, type(None)), "uses_tool": bool})

    @property
    def key(self) -> Key:
        return self.benchmark, self.uid, self.rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRecord:
    """The verdict on one rollout.

    Attributes:
        judge: no judge may come later and say otherwise: there was one to ask, or none is ever asked.
        version: the rules that gave it (`versions.scoring`).
        of: which line of `rollouts.jsonl` it is about, by its hash; a rollout that was sampled again has no verdict.
    """

    benchmark: str
    uid: str
    rollout: int
    score: Score
    judge: bool = False
    version: str = versions.FIRST_SCORING
    of: str | None = None

    @property
    def key(self) -> Key:
        return self.benchmark, self.uid, self.rollout


RecordT = TypeVar("RecordT", QuestionRecord, RolloutRecord, ScoreRecord)


def to_line(record: QuestionRecord | RolloutRecord | ScoreRecord) -> bytes:
    """One line of JSON without its line end, whatever the policy wrote."""
    try:
        return orjson.dumps(record, default=str)
    except TypeError:  # an integer of more than 64 bits, half a surrogate pair: JSON allows them, orjson does not
        return json.dumps(asdict(record), default=str).encode()


def bytes_hash(content: bytes) -> str:
    """Names a line in another one, or a file in the manifest."""
    return hashlib.sha256(content).hexdigest()[:HASH_CHARACTERS]


def image_path(image: bytes, digest: str) -> str:
    """Where a question's picture of this SHA-256 is kept, relative to the evaluation's folder."""
    suffix = next((suffix for magic, suffix in IMAGE_SUFFIXES.items() if image.startswith(magic)), ".img")
    return f"images/{digest[:HASH_CHARACTERS]}{suffix}"


def question_record(question: Question, digests: Sequence[str]) -> QuestionRecord:
    """A question as it is kept, given the SHA-256 of each of its pictures."""
    return QuestionRecord(
        benchmark=question.benchmark,
        uid=question.uid,
        prompt=question.prompt,
        ground_truth=question.ground_truth,
        answer_type=question.answer_type,
        images=tuple(map(image_path, question.images, digests)),
        options=question.options,
        metadata=question.metadata,
    )


def from_line(kind: type[RecordT], line: bytes) -> RecordT:
    """The record of a line.

    Raises:
        ValueError: not a record of this kind.
    """
    try:
        values = _loads(line)
        return kind(**values | _NESTED[kind](values))
    except (TypeError, KeyError, AttributeError) as error:
        expected = [one.name for one in fields(kind)]
        raise ValueError(f"no {kind.__name__}, which has {expected}: {error}") from error


def _check(record: object, kinds: Mapping[str, type | tuple[type, ...]]) -> None:
    """Raises TypeError for a value of another kind: a report must not meet it in the middle of its numbers."""
    wrong = {name: value for name, kind in kinds.items() if not isinstance(value := getattr(record, name), kind)}
    if wrong:
        raise TypeError(f"got {wrong}")


def _loads(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return json.loads(line)


def _question(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(values[name]) for name in ("images", "options")}


def _rollout(values: dict[str, Any]) -> dict[str, Any]:
    return {"status": Status(values["status"]), "turns": tuple(_turn(one) for one in values["turns"])}


def _turn(values: dict[str, Any]) -> TurnRecord:
    calls = tuple(ToolCall(**call) for call in values["calls"])
    responses = tuple(ResponseRecord(text=one["text"], images=tuple(one["images"])) for one in values["responses"])
    return TurnRecord(**values | {"calls": calls, "responses": responses})


def _score(values: dict[str, Any]) -> dict[str, Any]:
    return {"score": Score(**values["score"])}


_NESTED = {QuestionRecord: _question, RolloutRecord: _rollout, ScoreRecord: _score}
