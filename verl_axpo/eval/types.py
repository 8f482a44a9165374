"""What an evaluation speaks of, and how it is kept as lines of JSON.

    Question -> Agent.run -> AgentRun of Turns -> RolloutRecord -> scorer -> Score -> ScoreRecord
                                                    to_line() -> a line -> from_line()

A rollout and its score are separate lines: a rollout is safe on disk before a judge has read it, and can be scored
again without being sampled again.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from math import isfinite
from typing import Any, Literal, TypeVar, get_args

import msgspec
import orjson

from verl_axpo.core.types import Status
from verl_axpo.image_store import encoded_path
from verl_axpo.trace.records import ToolCall

AnswerType = Literal["math", "choice", "short_text", "judge"]
ScoredBy = Literal["rule", "judge", "nobody"]
Key = tuple[str, str, int]  # benchmark, uid, rollout

HASH_CHARACTERS = 32  # 128 bits of SHA-256
FIRST_SCORING = "scorers 1, answer rules 1, judge prompt 1"  # of verdicts from before they named their rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question of a benchmark.

    Attributes:
        prompt: the user turn as the policy sees it, options and answer instruction included; `<image>` stands for the
            next image.
        images: encoded files, as they came (PNG, JPEG or WebP); empty for a question that was read back from a folder.
        metadata: what the benchmark's scorer needs beyond the ground truth (aliases, precision, level, category).
        image_paths: of a question that was read back, its images relative to the evaluation's folder.

    Example: `Question(benchmark="vstar", uid="17", prompt="<image>What colour ...", images=(b"...",),
    ground_truth="B", answer_type="choice", options=("red", "blue", "green", "white"))`
    """

    benchmark: str
    uid: str
    prompt: str
    ground_truth: str
    answer_type: AnswerType
    images: tuple[bytes, ...] = ()
    options: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    image_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The verdict on one rollout.

    Attributes:
        correct: None when nobody could say (a judge that failed); never a wrong answer.
        reason: what decided, in one line.
        values: further numbers by name (another convention of the same benchmark, F1).

    Raises:
        TypeError: a value of another kind; it would be met in the middle of a report.

    Example: `Score(correct=True, by="rule", reason="letter B = B")`
    """

    correct: bool | None
    by: ScoredBy
    reason: str
    values: Mapping[str, float | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.correct is None or isinstance(self.correct, bool)) or self.by not in get_args(ScoredBy):
            raise TypeError(
                f"score: got correct={self.correct!r}, by={self.by!r}; expected True, False or None, and one of "
                f"{list(get_args(ScoredBy))}"
            )
        wrong = [
            name for name, value in self.values.items() if not isinstance(value, int | float) or not isfinite(value)
        ]
        if wrong:
            raise TypeError(f"score: got {dict(self.values)}; expected finite numbers for {wrong}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What one call returned to the policy; `images` are paths, relative to the evaluation's folder."""

    text: str
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One assistant turn and what its calls returned; `calls` and `responses` have the same length.

    Attributes:
        text: complete; where the generation prompt already held `<think>`, the text begins with it.
        unanswered: calls that were written and not carried out, for the turn was the last that the limits allow.
        seconds: of the request.
    """

    text: str
    calls: tuple[ToolCall, ...] = ()
    responses: tuple[Response, ...] = ()
    unanswered: int = 0
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRun:
    """What the agent made of a question: a trajectory, whole or as far as it came.

    Attributes:
        status: as in training.
        error: why it is an `infra_failure`, or which request the server refused as too long (`truncated`).
        token_exact: whether every request began with exactly the tokens of the turns before it; None if unknown
            (a single turn, or a server that does not return token ids).
        started, finished: seconds since the epoch.
    """

    status: Status
    turns: tuple[Turn, ...]
    error: str | None = None
    token_exact: bool | None = None
    started: float
    finished: float

    @property
    def uses_tool(self) -> bool:
        """Whether the policy emitted a tool call, well formed or not."""
        return any(turn.calls or turn.unanswered for turn in self.turns)

    @property
    def response_tokens(self) -> int:
        """Everything after the prompt: generated tokens and tool responses."""
        return used_tokens(self.turns)


def used_tokens(turns: Sequence[Turn]) -> int:
    """Tokens from the end of the first prompt to the end of the last turn."""
    if not turns:
        return 0
    return turns[-1].prompt_tokens - turns[0].prompt_tokens + turns[-1].completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyed:
    """A line about one rollout of one question."""

    benchmark: str
    uid: str
    rollout: int

    @property
    def key(self) -> Key:
        return self.benchmark, self.uid, self.rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRecord(Keyed):
    """A rollout, as it is kept; `answer` is what the scorer is asked about, None if there is none."""

    status: Status
    answer: str | None
    uses_tool: bool
    response_tokens: int
    turns: tuple[Turn, ...]
    error: str | None = None
    token_exact: bool | None = None
    started: float
    finished: float

    @classmethod
    def of(cls, key: Key, trajectory: AgentRun) -> "RolloutRecord":
        """The record of a trajectory whose answer is still to be read."""
        names = (*(each.name for each in fields(AgentRun)), "uses_tool", "response_tokens")
        came = {name: getattr(trajectory, name) for name in names}
        return cls(benchmark=key[0], uid=key[1], rollout=key[2], answer=None, **came)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRecord(Keyed):
    """The verdict on one rollout, as it is kept.

    Attributes:
        judge: no judge may come later and say otherwise: there was one to ask, or none is ever asked.
        version: the rules that gave it (`versions.scoring`).
        of: the hash of the line of `rollouts.jsonl` that it is about; a rollout that was sampled again has no verdict.
    """

    score: Score
    judge: bool = False
    version: str = FIRST_SCORING
    of: str | None = None


RecordT = TypeVar("RecordT", Question, RolloutRecord, ScoreRecord)


def to_line(record: Question | RolloutRecord | ScoreRecord) -> bytes:
    """One line of JSON without its line end, whatever the policy wrote. Of a question's images it holds the paths."""
    values: Any = record
    if isinstance(record, Question):
        values = asdict(replace(record, images=())) | {"images": record.image_paths}
        del values["image_paths"]
    try:
        return orjson.dumps(values, default=str)
    except TypeError:  # an integer of more than 64 bits, half a surrogate pair: JSON allows them, orjson does not
        return json.dumps(values if isinstance(values, dict) else asdict(values), default=str).encode()


def from_line(kind: type[RecordT], line: bytes) -> RecordT:
    """The record of a line.

    Raises:
        ValueError: not a record of this kind, or a value of another type.
    """
    try:
        values = loads(line)
        if kind is Question:
            values = {**values, "images": (), "image_paths": values["images"]}
        return msgspec.convert(values, kind)
    except (TypeError, KeyError, RecursionError, msgspec.ValidationError) as error:
        raise ValueError(f"no {kind.__name__}, which has {[each.name for each in fields(kind)]}: {error}") from error


def loads(line: bytes) -> Any:
    """The values of a line; takes half a surrogate pair and integers of more than 64 bits, as `to_line` writes them."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return json.loads(line)


def questions_file(questions: Sequence[Question]) -> bytes:
    """The file of a benchmark's questions, with the paths at which their images are kept in the evaluation's folder."""
    kept = (replace(question, image_paths=tuple(map(encoded_path, question.images))) for question in questions)
    return b"".join(to_line(question) + b"\n" for question in kept)


def bytes_hash(content: bytes) -> str:
    """Names a line in another line, or a file in the manifest."""
    return hashlib.sha256(content).hexdigest()[:HASH_CHARACTERS]
