"""What flows through `core`: the few facts about a rollout that AXPO decides on, and nothing of its tokens.

    Rollout -> (trigger, ranking) -> Candidate -> (budget, resampling) -> Rollout with a source -> (advantage)

Sizes are named as in the whole project: B questions, N rollouts of a group, K continuations of a prefix,
R rows of a batch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum


class Status(str, Enum):
    """How a rollout ended. `INFRA_FAILURE` is the fault of a service, never of the policy."""

    OK = "ok"
    TRUNCATED = "truncated"
    INFRA_FAILURE = "infra_failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One scored trajectory of a question: a rollout, or a continuation of the prefix of rollout `source`.

    `reward` is always its own outcome reward. `confidence` is the mean policy probability of the tokens of the first
    tool call, `entropy` their mean entropy in nats; None without a tool call, or where it was not measured.

    Example: `Rollout(uid="q7", session=8, reward=1.0, uses_tool=True, source=3)`
    """

    uid: str
    session: int
    reward: float
    uses_tool: bool
    status: Status = Status.OK
    confidence: float | None = None
    entropy: float | None = None
    source: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A prefix that may be resampled, named by its rollout; the lower `score` is resampled first.

    Example: `Candidate(uid="q7", session=3, score=0.62)`
    """

    uid: str
    session: int
    score: float


def usable(rollouts: Iterable[Rollout]) -> list[Rollout]:
    """The rollouts that say something about the policy: all but infra failures."""
    return [rollout for rollout in rollouts if rollout.status is not Status.INFRA_FAILURE]


def groups_of(rollouts: Iterable[Rollout], questions: Sequence[str]) -> dict[str, list[Rollout]]:
    """The N rollouts of each question, by session; fewer where a session failed, and no continuations."""
    groups: dict[str, list[Rollout]] = {uid: [] for uid in questions}
    for rollout in rollouts:
        if rollout.source is None and rollout.uid in groups:
            groups[rollout.uid].append(rollout)
    return {uid: sorted(group, key=lambda rollout: rollout.session) for uid, group in groups.items()}


def continuations_of(rollouts: Iterable[Rollout]) -> dict[tuple[str, int], list[Rollout]]:
    """(uid, session of a source) -> the continuations of its prefix."""
    continuations: dict[tuple[str, int], list[Rollout]] = {}
    for rollout in rollouts:
        if rollout.source is not None:
            continuations.setdefault((rollout.uid, rollout.source), []).append(rollout)
    return continuations
