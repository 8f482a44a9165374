"""What flows through `core`: the few facts about a rollout that AXPO decides on, and nothing of its tokens.

    Rollout, Group -> (trigger, ranking) -> Candidate -> (budget, resampling) -> Row -> (advantage)

Sizes are named as in the whole project: B questions, N rollouts of a group, K continuations of a prefix,
R rows of a batch.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar


class Status(str, Enum):
    """How a rollout ended. `INFRA_FAILURE` is the fault of a service, never of the policy."""

    OK = "ok"
    TRUNCATED = "truncated"
    INFRA_FAILURE = "infra_failure"


class Kind(str, Enum):
    """`ROLLOUT`: one of the N ordinary rollouts. `RESAMPLE`: one of the K continuations of a prefix."""

    ROLLOUT = "rollout"
    RESAMPLE = "resample"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One scored rollout, as the trigger and the ranking see it.

    `confidence` is the mean policy probability of the tokens of the first tool call, `entropy` their mean entropy in
    nats; None where there is no tool call or it was not measured.

    Example: `Rollout(session=3, reward=0.0, uses_tool=True, confidence=0.62)`
    """

    session: int
    reward: float
    uses_tool: bool
    status: Status = Status.OK
    confidence: float | None = None
    entropy: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The N rollouts of one question.

    Example: `Group(uid="q7", rollouts=(Rollout(session=0, reward=1.0, uses_tool=False), ...))`
    """

    uid: str
    rollouts: tuple[Rollout, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A prefix that may be resampled, named by its source rollout; the lower `score` is resampled first.

    Example: `Candidate(uid="q7", session=3, score=0.62)`
    """

    uid: str
    session: int
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the training batch, as the advantages see it. `reward` is always the row's own outcome reward.

    A resample names the rollout whose prefix it continues in `source_session`; that rollout is `selected`.

    Example: `Row(uid="q7", session=8, reward=1.0, kind=Kind.RESAMPLE, source_session=3)`
    """

    uid: str
    session: int
    reward: float
    kind: Kind = Kind.ROLLOUT
    source_session: int | None = None
    status: Status = Status.OK
    selected: bool = False

    def __post_init__(self) -> None:
        resample = self.kind is Kind.RESAMPLE
        if resample == (self.source_session is None) or (resample and self.selected):
            raise ValueError(
                f"{self}: a resample has a source_session and is never selected, a rollout has no source_session; "
                "set kind, source_session and selected accordingly"
            )


class Scored(Protocol):
    """What `Rollout` and `Row` share."""

    @property
    def reward(self) -> float: ...
    @property
    def status(self) -> Status: ...


ScoredT = TypeVar("ScoredT", bound=Scored)


def usable(scored: Iterable[ScoredT]) -> tuple[ScoredT, ...]:
    """Those that say something about the policy: all but infra failures."""
    return tuple(one for one in scored if one.status is not Status.INFRA_FAILURE)
