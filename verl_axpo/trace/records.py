"""What the trace holds, as data: one record per trajectory, one summary per step, both to JSON and back.

The field names, their types and their meaning are the file format (`docs/trace.md`): a file of another form is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
import orjson

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.streaming import Settlement
from verl_axpo.core.types import Candidate, Rollout, Status

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Integers = Sequence[int] | npt.NDArray[np.integer[Any]]
    Numbers = Sequence[float | None] | npt.NDArray[np.floating[Any]]
else:  # as they are read; the trainer writes arrays
    Integers, Numbers = list[int], list[float | None]

RecordT = TypeVar("RecordT", "TrajectoryRecord", "StepSummary")

UNDECODABLE = "undecodable"  # how metrics and reports name calls whose tool nobody can read
# Evidence that the first traces do not have: left out of a file where it is None, and None where a file has none
OPTIONAL = (
    *("entropies", "turn_lengths", "weight_versions"),
    *("tags", "settled", "reserve", "call_syntax", "starts_in_think"),
)


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
    `entropies` are the trainer's, None on the same tokens and on those that a source is not trained on; None where the
    trainer computes none, and in older traces.
    `turn_lengths` are the tokens of each assistant turn as the engine returned them, a resample's prefix included:
    evidence for the mask and the log-probs that comes from neither.
    `weight_versions` are the oldest and the newest weights that generated tokens for this row, so without a resample's
    prefix; a version is the number of the step after which the weights were sent to the engine.
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
    response_ids: Integers  # (T,)
    response_mask: Integers  # (T,) 1 = trained, after all AXPO masking
    logprobs: Numbers  # (T,) nats, NaN as None
    entropies: Numbers | None = None  # (T,) nats, NaN as None
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
    weight_versions: tuple[int, int] | None = None

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
        values = _values(self)
        try:
            return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)
        except TypeError:  # a policy, a tool or a data set wrote it: whatever it is, it must not stop the run
            plain = {key: _writable(value) for key, value in values.items()}
            return orjson.dumps(plain, option=orjson.OPT_SERIALIZE_NUMPY)

    @classmethod
    def from_json(cls, line: bytes | str) -> "TrajectoryRecord":
        """Raises ValueError for anything but a record with exactly the file's fields, each of its type."""
        values = orjson.loads(line)
        kind = values.pop("kind", None) if isinstance(values, dict) else None
        record = _read(cls, values)
        if kind != record.kind:
            raise ValueError(f"kind: expected {record.kind}, for source_session is {record.source_session}")
        return record

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
        metrics: as logged, by name; JSON writes NaN as null.
        normalize_std: whether advantages are divided by the group's std (verl's `norm_adv_by_std_in_grpo`).
        num_records: lines of the step's file; the writer fills it in.
        tags: token ids of the tags around thinking and tool calls, from the tokenizer: evidence for every prefix.
        settled: with streaming allocation, the order in which the groups settled and the account at each; else None.
        call_syntax: how the model writes calls (`verl_axpo.tools.syntax`); left out for hermes.
        starts_in_think: whether the prompt leaves the thinking open; left out in older traces.
    """

    step: int
    config: AxpoConfig
    questions: Sequence[str]
    rollouts_per_question: int
    budget: int
    candidates: Sequence[Candidate]
    selected: Sequence[Candidate]
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    normalize_std: bool = True
    num_records: int | None = None
    tags: Mapping[str, int] | None = None
    settled: Sequence[Settlement] | None = None
    call_syntax: str | None = None
    starts_in_think: bool | None = None

    def to_json(self) -> bytes:
        """The file's content, indented for readers."""
        return orjson.dumps(_values(self), option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_INDENT_2) + b"\n"

    @classmethod
    def from_json(cls, text: bytes | str) -> "StepSummary":
        """Raises ValueError for anything but one summary with exactly the fields above."""
        summary = _read(cls, values := orjson.loads(text))
        return replace(summary, config=AxpoConfig.from_mapping(values["config"]))


def _read(kind: type[RecordT], values: Any) -> RecordT:
    """JSON's values as a record, refused with the name of the field that is not as the format has it."""
    _check_keys(kind, values)
    parts = {"tool_calls": ToolCall, "candidates": Candidate, "selected": Candidate, "settled": Settlement}
    for name, part in parts.items():
        for each in values[name] if isinstance(values.get(name), list) else ():
            _check_keys(part, each)
    return msgspec.convert(values, kind)


def _check_keys(kind: type[Any], values: Any) -> None:
    """Every field is there, and nothing else."""
    if not isinstance(values, dict):
        raise ValueError(f"{kind.__name__}: got {type(values).__name__}, expected an object")
    names = {each.name for each in fields(kind)}
    missing, unknown = sorted(names - values.keys() - set(OPTIONAL)), sorted(values.keys() - names)
    if missing or unknown:
        raise ValueError(f"{kind.__name__}: missing {missing}, not known {unknown}")


def _values(record: TrajectoryRecord | StepSummary) -> dict[str, Any]:
    """The fields as the file has them; the file of a step names the `kind` of a row after its session."""
    names = [each.name for each in fields(record)]
    if isinstance(record, TrajectoryRecord):
        names.insert(names.index("session") + 1, "kind")
    values = {name: getattr(record, name) for name in names}
    return {name: value for name, value in values.items() if name not in OPTIONAL or value is not None}


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
    error = call.error and _escaped(call.error)
    return replace(call, name=_escaped(call.name), arguments=_as_ascii(call.arguments), error=error)


def _as_ascii(value: Any) -> str:
    try:
        return ascii(value)
    except RecursionError:
        return f"a {type(value).__name__} that is nested too deep to be written"


def _escaped(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
