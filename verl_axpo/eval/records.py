"""What an evaluation keeps on disk, as data: questions, rollouts, scores; to a line of JSON and back.

    Question -> QuestionRecord   Trajectory -> RolloutRecord   Score -> ScoreRecord

A rollout and its score are separate lines: a rollout is safe on disk before a judge has read it, and can be scored
again without being sampled again.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

import orjson

from verl_axpo.core.types import Status
from verl_axpo.eval.types import AnswerType, Score
from verl_axpo.trace.records import ToolCall

Key = tuple[str, str, int]  # benchmark, uid, rollout


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

    @property
    def key(self) -> Key:
        return self.benchmark, self.uid, self.rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRecord:
    """The verdict on one rollout; `judge`: there was one to ask, so that none may come later and say otherwise."""

    benchmark: str
    uid: str
    rollout: int
    score: Score
    judge: bool = False

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
