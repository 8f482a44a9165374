"""Streaming allocation: a token bucket instead of a barrier. A group settles -> it, or one that waits, may resample.

    account: + r * N for every group that settles, - K for every prefix; never below 0

So there are never more continuations than r times the rollouts so far. `exact` (budget.py) knows all candidates of a
step before it pays for any; here a group that settles early may get what a less confident one would have got.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from verl_axpo.core.budget import ranked_order
from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """A group settled.

    Attributes:
        uid: the question.
        order: its place among the groups that share the account, from 0.
        account: continuations that may be paid for, this group's share included, before any payment.
        reserve: None where groups wait for their call to be through; else the group was decided on at once, and its
            second prefixes had to leave this many continuations in the account.

    Example: `Settlement(uid="q7", order=2, account=6.0)`, the third group with r=0.25 and N=8, nothing paid yet
    """

    uid: str
    order: int
    account: float
    reserve: float | None = None


class TokenBucket:
    """The account of the groups of a call (`settle`, then `close`), or of a whole run (`settle_at_once`).

    Args:
        config: the algorithm's settings.
        rollouts_per_question: N.
    """

    def __init__(self, config: AxpoConfig, rollouts_per_question: int) -> None:
        self.account = Fraction(0)  # exact: 0.29 * 100 is below 29 in floating point
        self.settled = 0  # groups
        self.selected: dict[str, tuple[Candidate, ...]] = {}  # by question, in the order in which they were paid for
        self._ranked: dict[str, tuple[Candidate, ...]] = {}
        self._config, self._cost = config, config.num_continuations
        self._rollouts = rollouts_per_question

    def deposit(self, groups: int) -> Fraction:
        """r * N for each of them, in continuations."""
        return Fraction(str(self._config.budget)) * self._rollouts * groups

    def settle(self, uid: str, candidates: Sequence[Candidate], to_come: int) -> Settlement:
        """Deposit the group's share, then pay for a first prefix of every group that has none while the account lasts:
        the most uncertain goes first, and ties go to the group that settled first. Second prefixes are paid for from
        what is left even if every group to come asks for a first one.

        Args:
            uid: the question.
            candidates: in ranked order; () if the group is not triggered, or failed.
            to_come: groups of the call that have not settled yet.
        """
        settlement = self._settlement(uid)
        self._ranked[uid], self.selected[uid] = tuple(candidates), ()
        self._pay(ranked_order({uid: ranked[:1] for uid, ranked in self._ranked.items() if not self.selected[uid]}))
        self._pay(self._others(self._ranked), reserve=to_come * max(self._cost - self.deposit(1), Fraction(0)))
        return settlement

    def close(self, questions: Sequence[str]) -> None:
        """All groups of the call are through: what the account holds goes to their other candidates, breadth-first.

        Args:
            questions: uids in batch order, which breaks ties; those that never settled get nothing.
        """
        self._pay(self._others(questions))

    def settle_at_once(
        self, uid: str, candidates: Sequence[Candidate], reserve: Fraction
    ) -> tuple[Settlement, tuple[Candidate, ...]]:
        """Deposit the group's share and decide on it alone, for groups that cannot wait for each other: its first
        prefix if the account allows, its others while at least `reserve` is left after them.

        Args:
            uid: the question.
            candidates: in ranked order.
            reserve: continuations that are kept for the first prefixes of groups to come.
        """
        settlement = self._settlement(uid, float(reserve))
        paid = affordable(candidates, self.account, self._cost, reserve)
        self.account -= self._cost * len(paid)
        return settlement, paid

    def _settlement(self, uid: str, reserve: float | None = None) -> Settlement:
        self.account += self.deposit(1)
        self.settled += 1
        return Settlement(uid=uid, order=self.settled - 1, account=float(self.account), reserve=reserve)

    def _others(self, questions: Iterable[str]) -> tuple[Candidate, ...]:
        """The candidates that are not paid for, breadth-first."""
        settled = (uid for uid in questions if uid in self._ranked)
        return ranked_order({uid: self._ranked[uid][len(self.selected[uid]) :] for uid in settled})

    def _pay(self, candidates: Sequence[Candidate], reserve: Fraction = Fraction(0)) -> None:
        """In this order, until no more than the reserve is left."""
        for candidate in candidates[: max(0, int((self.account - reserve) // self._cost))]:
            self.account -= self._cost
            self.selected[candidate.uid] += (candidate,)


def affordable(
    candidates: Sequence[Candidate], account: Fraction, cost: int, reserve: Fraction
) -> tuple[Candidate, ...]:
    """The candidates of a group that is decided on at once: the first for `cost`, the others above `reserve`."""
    if not candidates or account < cost:
        return ()
    others = max((account - cost - reserve) // cost, 0)
    return tuple(candidates[: 1 + int(others)])


def replay(
    settled: Sequence[Settlement],
    ranked: Mapping[str, Sequence[Candidate]],
    config: AxpoConfig,
    *,
    questions: Sequence[str],
    rollouts_per_question: int,
) -> tuple[tuple[Settlement, ...], dict[str, tuple[Candidate, ...]]]:
    """What streaming decides on groups that settle in the order of `settled`: settlements, and uid -> selected.

    Groups of one call are decided on from an empty account. Those that were decided on at once may be a part of a run,
    so each sequence of neighbours begins with the account that the first of them had.
    """
    bucket = TokenBucket(config, rollouts_per_question)
    replayed: list[Settlement] = []
    at_once: dict[str, tuple[Candidate, ...]] = {}
    for told in settled:
        candidates = ranked.get(told.uid, ())
        if told.reserve is None:
            replayed.append(bucket.settle(told.uid, candidates, len(questions) - bucket.settled - 1))
            continue
        if told.order != bucket.settled or not replayed:
            bucket.account, bucket.settled = Fraction(str(told.account)) - bucket.deposit(1), told.order
        settlement, at_once[told.uid] = bucket.settle_at_once(told.uid, candidates, Fraction(str(told.reserve)))
        replayed.append(settlement)
    bucket.close(questions)
    return tuple(replayed), bucket.selected | at_once
