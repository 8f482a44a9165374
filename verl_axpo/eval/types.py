"""What an evaluation speaks of, and how it is kept as lines of JSON.

    Question -> Agent.run -> Trajectory of Turns -> RolloutRecord -> scorer -> Score -> ScoreRecord
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
TruncateSide = Literal["left", "middle", "right"]
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


# ------------------------------ how a rollout is sampled ------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the server samples; the defaults are the paper's evaluation (section 4). None leaves a field to the server.

    `seed` is the run's: each request gets its own, made of it (`request_seed`).
    """

    temperature: float | None = 0.7
    top_p: float | None = 0.8
    top_k: int | None = 20
    presence_penalty: float | None = 1.5
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("temperature", 0.0), ("top_p", 0.0), ("presence_penalty", -2.0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}: got {value}, expected at least {least:g}, or none to leave it to the server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Where a trajectory ends. Turns and tokens are the paper's evaluation, `tool_response_chars` our training config's
    (axpo_trainer.yaml), the rest verl's `multi_turn` defaults.

    Attributes:
        max_turns: assistant turns (`max_assistant_turns`).
        response_tokens: everything after the prompt, tool responses included (`response_length`).
        parallel_calls: calls of one turn that are carried out; the rest is dropped (`max_parallel_calls`).
        tool_response_chars: longer texts of a tool are cut (`max_tool_response_length`).
        truncate_side: where they are cut (`tool_response_truncate_side`).
    """

    max_turns: int = 5
    response_tokens: int = 32_768
    parallel_calls: int = 1
    tool_response_chars: int = 8192
    truncate_side: TruncateSide = "middle"

    def __post_init__(self) -> None:
        for name in ("max_turns", "response_tokens", "parallel_calls", "tool_response_chars"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected at least 1")
        if self.truncate_side not in get_args(TruncateSide):
            raise ValueError(f"truncate_side: got {self.truncate_side!r}; choose from {list(get_args(TruncateSide))}")


# ------------------------------ what comes of it ------------------------------


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
class Trajectory:
    """One trajectory, whole or as far as it came.

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
class RolloutRecord:
    """One rollout of one question, as it is kept; `answer` is what the scorer is asked about, None if there is none."""

    benchmark: str  # first: `manifest.py` finds it in the line's text
    uid: str
    rollout: int
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
    def of(cls, key: Key, trajectory: Trajectory, answer: str | None = None) -> "RolloutRecord":
        """The record of a trajectory."""
        came = {each.name: getattr(trajectory, each.name) for each in fields(Trajectory)}
        used: dict[str, Any] = {"uses_tool": trajectory.uses_tool, "response_tokens": trajectory.response_tokens}
        return cls(benchmark=key[0], uid=key[1], rollout=key[2], answer=answer, **used, **came)

    @property
    def key(self) -> Key:
        return self.benchmark, self.uid, self.rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRecord:
    """The verdict on one rollout, as it is kept.

    Attributes:
        judge: no judge may come later and say otherwise: there was one to ask, or none is ever asked.
        version: the rules that gave it (`versions.scoring`).
        of: the hash of the line of `rollouts.jsonl` that it is about; a rollout that was sampled again has no verdict.
    """

    benchmark: str
    uid: str
    rollout: int
    score: Score
    judge: bool = False
    version: str = FIRST_SCORING
    of: str | None = None

    @property
    def key(self) -> Key:
        return self.benchmark, self.uid, self.rollout


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
        try:
            values = orjson.loads(line)
        except orjson.JSONDecodeError:
            values = json.loads(line)
        if kind is Question:
            values = {**values, "images": (), "image_paths": values["images"]}
        return msgspec.convert(values, kind)
    except (TypeError, KeyError, RecursionError, msgspec.ValidationError) as error:
        raise ValueError(f"no {kind.__name__}, which has {[each.name for each in fields(kind)]}: {error}") from error


def bytes_hash(content: bytes) -> str:
    """Names a line in another line, or a file in the manifest."""
    return hashlib.sha256(content).hexdigest()[:HASH_CHARACTERS]


def with_paths(question: Question) -> Question:
    """The question with the paths, relative to the evaluation's folder, at which its images are kept."""
    return replace(question, image_paths=tuple(map(encoded_path, question.images)))
