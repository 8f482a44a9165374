"""What the trace holds, as data: one record per trajectory, one summary per step, both to JSON and back.

The field names and their meaning are the file format (`docs/trace.md`); whoever writes such a file, it reads the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain, zip_longest
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import orjson

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Candidate, Kind, Rollout, Row, Status


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

    `response_ids` is the whole response, also for a selected source whose training row is cut at its prefix.
    `logprobs` has None on the tokens that the policy did not generate (tool responses).
    `advantage` is the value on the row's trained tokens; `advantage_prefix` repeats it for a source trained on R.
    """

    step: int
    uid: str
    session: int
    kind: Kind = Kind.ROLLOUT
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

    @property
    def uses_tool(self) -> bool:
        """Whether the policy emitted a tool call, well formed or not."""
        return self.prefix_len is not None

    def to_json(self) -> bytes:
        """One line of JSON without its line end."""
        try:
            return orjson.dumps(self, option=orjson.OPT_SERIALIZE_NUMPY)
        except TypeError:  # the policy wrote these arguments: whatever they are, they must not stop the run
            plain = replace(self, tool_calls=[_as_text(call) for call in self.tool_calls])
            return orjson.dumps(plain, option=orjson.OPT_SERIALIZE_NUMPY)

    @classmethod
    def from_json(cls, line: bytes | str) -> "TrajectoryRecord":
        """Raises ValueError for anything but one record with exactly the fields above."""
        values = _with_keys_of(cls, orjson.loads(line))
        span = values["tool_call_span"]
        return cls(
            **values
            | {
                "kind": Kind(values["kind"]),
                "status": Status(values["status"]),
                "reward": _number(values, "reward"),
                "advantage": _number(values, "advantage"),
                "tool_calls": [ToolCall(**_with_keys_of(ToolCall, call)) for call in values["tool_calls"]],
                "tool_call_span": None if span is None else (int(span[0]), int(span[1])),
            }
        )

    def as_rollout(self) -> Rollout:
        """What the trigger and the ranking see of this trajectory."""
        return Rollout(
            session=self.session,
            reward=self.reward,
            uses_tool=self.uses_tool,
            status=self.status,
            confidence=self.confidence,
            entropy=self.entropy,
        )

    def as_row(self) -> Row:
        """What the advantages see. Raises ValueError where kind, source_session and selected contradict each other."""
        return Row(
            uid=self.uid,
            session=self.session,
            reward=self.reward,
            kind=self.kind,
            source_session=self.source_session,
            status=self.status,
            selected=self.selected,
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

    def to_json(self) -> bytes:
        """The file's content, indented for readers."""
        return orjson.dumps(self, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_INDENT_2) + b"\n"

    @classmethod
    def from_json(cls, text: bytes | str) -> "StepSummary":
        """Raises ValueError for anything but one summary with exactly the fields above."""
        values = _with_keys_of(cls, orjson.loads(text))
        return cls(
            **values
            | {
                "config": AxpoConfig.from_mapping(values["config"]),
                "candidates": [Candidate(**_with_keys_of(Candidate, one)) for one in values["candidates"]],
                "selected": [Candidate(**_with_keys_of(Candidate, one)) for one in values["selected"]],
            }
        )


def ranked_order(ranked: Mapping[str, Sequence[Candidate]]) -> tuple[Candidate, ...]:
    """Every question's ranked candidates in the order in which a budget reaches them.

    Breadth-first: all first-ranked ones, then all second-ranked ones, ...; inside a level lowest score first, ties by
    the order of the questions in `ranked`.
    """
    levels = zip_longest(*ranked.values())
    return tuple(
        chain.from_iterable(
            sorted((one for one in level if one is not None), key=lambda one: one.score) for level in levels
        )
    )


RecordT = TypeVar("RecordT", TrajectoryRecord, StepSummary, ToolCall, Candidate)


def _with_keys_of(cls: type[RecordT], values: Any) -> dict[str, Any]:
    """`values`, refused unless it is an object with exactly the fields of `cls`."""
    expected = {one.name for one in fields(cls)}
    got = set(values) if isinstance(values, dict) else {f"a {type(values).__name__} instead of an object"}
    if got != expected:
        raise ValueError(f"{cls.__name__}: missing {sorted(expected - got)}, not known {sorted(got - expected)}")
    return dict(values)


def _number(values: Mapping[str, Any], key: str) -> float:
    """`values[key]` as a float; JSON writes NaN and infinity as null, which no reward or advantage may be."""
    if not isinstance(values[key], (int, float)):
        raise ValueError(f"{key}: got {values[key]!r}, expected a finite number")
    return float(values[key])


def _as_text(call: ToolCall) -> ToolCall:
    error = None if call.error is None else _escaped(call.error)
    return replace(call, name=_escaped(call.name), arguments=ascii(call.arguments), error=error)


def _escaped(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
