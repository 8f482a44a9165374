"""What the trace holds, as data: one record per trajectory, one summary per step, both to JSON and back.

The field names and their meaning are the file format (`docs/trace.md`); whoever writes such a file, it reads the same.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import orjson

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Candidate, Rollout, Status
from verl_axpo.trace.checks import (
    CALL_TYPES,
    CANDIDATE_TYPES,
    OPTIONAL,
    RECORD_TYPES,
    SUMMARY_TYPES,
    TOKEN_FIELDS,
    check_elements,
    check_types,
    with_keys_of,
)

UNDECODABLE = "undecodable"  # how metrics and reports name calls whose tool nobody can read
_TOKEN_ARRAY = re.compile(f'"(?:{"|".join(TOKEN_FIELDS)})":\\s*\\['.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One executed call. `arguments` is the raw text where it was no valid JSON; `infra` means the service failed.

    What JSON allows and our file cannot hold (an integer of more than 64 bits, half a surrogate pair, nesting beyond
    254 levels) is written as text.

    Example: `ToolCall(name="image_zoom_in", arguments={"bbox_2d": [0, 0, 500, 500]}, ok=True, seconds=0.02)`
    """

    name: str
    arguments: Any
    ok: bool
    infra: bool = False
    seconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryRecord:
    """One trajectory of a step, tokens and outcome. T response tokens; sequences may be lists or NumPy arrays.

    A continuation names its source in `source_session`, and the file calls it `"kind": "resample"`; a rollout has none.
    `response_ids` is the whole response, also for a selected source whose training row is cut at its prefix.
    `logprobs` has None on the tokens that the policy did not generate (tool responses).
    `turn_lengths` are the tokens of each assistant turn as the engine returned them, a resample's prefix included:
    evidence for the mask and the log-probs that comes from neither.
    `advantage` is the value on the row's trained tokens; `advantage_prefix` repeats it for a source trained on R.
    """

    step: int
    uid: str
    session: int
    source_session: int | None = None
    selected: bool = False
    status: Status = Status.OK
    question: str
    ground_truth: Any
    images: Sequence[str] = ()  # relative to the trace's folder
    prompt_len: int  # tokens
    response_ids: Sequence[int] | npt.NDArray[np.integer[Any]]  # (T,)
    response_mask: Sequence[int] | npt.NDArray[np.integer[Any]]  # (T,) 1 = trained, after all AXPO masking
    logprobs: Sequence[float | None] | npt.NDArray[np.floating[Any]]  # (T,) nats, NaN as None
    text: str
    tool_calls: Sequence[ToolCall] = ()
    prefix_len: int | None = None  # tokens, the first opening tag included
    tool_call_span: tuple[int, int] | None = None  # [start, end) in the response, the closing tag included
    confidence: float | None = None
    entropy: float | None = None
    reward: float
    recovery: int | None = None
    advantage_prefix: float | None = None
    advantage: float
    num_turns: int
    started: float  # seconds
    finished: float  # seconds
    turn_lengths: Sequence[int] | None = None

    @property
    def kind(self) -> Literal["rollout", "resample"]:
        """As the file names it: one of the N rollouts, or a continuation of a prefix."""
        return "rollout" if self.source_session is None else "resample"

    @property
    def uses_tool(self) -> bool:
        """Whether the policy emitted a tool call, well formed or not."""
        return self.prefix_len is not None

    def to_json(self) -> bytes:
        """One line of JSON without its line end."""
        values = _values(self, self.kind)
        try:
            return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)
        except TypeError:  # a policy, a tool or a data set wrote it: whatever it is, it must not stop the run
            plain = {key: _writable(value) for key, value in values.items()}
            return orjson.dumps(plain, option=orjson.OPT_SERIALIZE_NUMPY)

    @classmethod
    def from_json(cls, line: bytes | str) -> "TrajectoryRecord":
        """Raises ValueError for anything but a record with exactly the file's fields, each of its type."""
        values = with_keys_of(cls, orjson.loads(line), "kind")
        check_types(values, RECORD_TYPES)
        kind = "rollout" if values["source_session"] is None else "resample"
        if values.pop("kind") != kind:
            raise ValueError(f"kind: expected {kind}, for source_session is {values['source_session']}")
        check_elements(values, "images", str)
        check_elements(values, "turn_lengths", int)
        span = values["tool_call_span"]
        if span is not None and not (len(span) == 2 and all(isinstance(end, int) for end in span)):
            raise ValueError(f"tool_call_span: got {span!r}, expected [start, end) in tokens")
        return cls(
            **values
            | {
                "status": Status(values["status"]),
                "reward": float(values["reward"]),
                "advantage": float(values["advantage"]),
                "tool_calls": [_tool_call(call) for call in values["tool_calls"]],
                "tool_call_span": None if span is None else tuple(span),
            }
        )

    def as_rollout(self) -> Rollout:
        """What the algorithm decides on."""
        return Rollout(
            uid=self.uid,
            session=self.session,
            reward=self.reward,
            uses_tool=self.uses_tool,
            status=self.status,
            confidence=self.confidence,
            entropy=self.entropy,
            source=self.source_session,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSummary:
    """What a step decided. Its file is written last: a step with a summary is complete.

    Attributes:
        config: the algorithm's settings in this step.
        questions: the B uids in batch order, which breaks ties of the allocation.
        rollouts_per_question: N.
        budget: prefixes that the step may resample, `floor(r * B * N / K)`.
        candidates: of all triggered questions, in the order in which the budget is handed out (`ranked_order`).
        selected: the candidates that got budget; one without resampled rows is one whose resampling failed.
        metrics: as logged, by name.
        normalize_std: whether advantages are divided by the group's std (verl's `norm_adv_by_std_in_grpo`).
        num_records: lines of the step's file; the writer fills it in.
        tags: token ids of the tags around thinking and tool calls, from the tokenizer: evidence for every prefix.
    """

    step: int
    config: AxpoConfig
    questions: Sequence[str]
    rollouts_per_question: int
    budget: int
    candidates: Sequence[Candidate]
    selected: Sequence[Candidate]
    metrics: Mapping[str, float] = field(default_factory=dict)
    normalize_std: bool = True
    num_records: int | None = None
    tags: Mapping[str, int] | None = None

    def to_json(self) -> bytes:
        """The file's content, indented for readers."""
        return orjson.dumps(_values(self), option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_INDENT_2) + b"\n"

    @classmethod
    def from_json(cls, text: bytes | str) -> "StepSummary":
        """Raises ValueError for anything but one summary with exactly the fields above."""
        values = with_keys_of(cls, orjson.loads(text))
        check_types(values, SUMMARY_TYPES)
        return cls(
            **values
            | {
                "config": AxpoConfig.from_mapping(values["config"]),
                "candidates": [_candidate(candidate) for candidate in values["candidates"]],
                "selected": [_candidate(candidate) for candidate in values["selected"]],
            }
        )


def without_tokens(line: bytes) -> bytes:
    """A record's line with empty token arrays: a tenth of it, and found without parsing the rest.

    In JSON a quote and a colon follow each other at a key only, and an array of numbers ends at the first bracket.
    """
    pieces, at = [], 0
    while match := _TOKEN_ARRAY.search(line, at):
        pieces.append(line[at : match.end()])
        at = max(line.find(b"]", match.end()), match.end())
    return b"".join([*pieces, line[at:]])


def _values(record: "TrajectoryRecord | StepSummary", kind: str | None = None) -> dict[str, Any]:
    """The fields as the file has them; the file of a step names the `kind` of a row after its session."""
    values: dict[str, Any] = {}
    for field_ in fields(record):
        values[field_.name] = getattr(record, field_.name)
        if kind is not None and field_.name == "session":
            values["kind"] = kind
    return {name: value for name, value in values.items() if name not in OPTIONAL or value is not None}


def _tool_call(values: Any) -> ToolCall:
    call = with_keys_of(ToolCall, values)
    check_types(call, CALL_TYPES)
    return ToolCall(**call)


def _candidate(values: Any) -> Candidate:
    candidate = with_keys_of(Candidate, values)
    check_types(candidate, CANDIDATE_TYPES)
    return Candidate(**candidate)


def _writable(value: Any) -> Any:
    """The value where JSON takes it, else its text."""
    try:
        orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        if isinstance(value, str):
            return _escaped(value)
        if isinstance(value, (list, tuple)) and any(isinstance(call, ToolCall) for call in value):
            return [_as_text(call) for call in value]
        return _as_ascii(value)
    return value


def _as_text(call: ToolCall) -> ToolCall:
    error = None if call.error is None else _escaped(call.error)
    return replace(call, name=_escaped(call.name), arguments=_as_ascii(call.arguments), error=error)


def _as_ascii(value: Any) -> str:
    try:
        return ascii(value)
    except RecursionError:
        return f"a {type(value).__name__} that is nested too deep to be written"


def _escaped(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
