"""One budget for all rollout workers of a step: every group reports its candidates and learns which it may resample.

    manager.begin(uids) -> workers: allocate(uid, candidates) ... -> core.budget or core.streaming -> the selected ones

`exact` allocation ranks all questions together, so a triggered group waits for the last one to report. With `streaming`
it waits until the account allows its first prefix, and `more` waits for the last report. No wait can dead-lock: a group
that fails reports nothing to resample, and when no group has reported for `patience` seconds (a worker died) the budget
is shared among those that did. Where groups are trained before their call is through (verl's asynchronous trainers),
streaming waits for nothing.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from verl_axpo.core.budget import allocate, max_prefixes
from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.streaming import Settlement, TokenBucket
from verl_axpo.core.types import Candidate

logger = logging.getLogger(__name__)

PATIENCE_S = 1800.0  # longer than any rollout should take; verl itself would wait for ever


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """uid -> its ranked candidates, and those that got budget; with streaming, how the groups settled, in order."""

    ranked: Mapping[str, tuple[Candidate, ...]]
    selected: Mapping[str, tuple[Candidate, ...]]
    settled: tuple[Settlement, ...] = ()


@dataclass(slots=True)
class Round:
    """The groups of one call of the manager's `generate_sequences`. With `exact` they share one budget at its end."""

    uids: tuple[str, ...]
    limit: int  # prefixes, with `exact`
    bucket: TokenBucket | None = None  # with `streaming`
    ranked: dict[str, tuple[Candidate, ...]] = field(default_factory=dict)
    selected: dict[str, tuple[Candidate, ...]] = field(default_factory=dict)  # so far
    settled: dict[str, Settlement] = field(default_factory=dict)
    speculating: set[str] = field(default_factory=set)  # questions
    closed: bool = False
    reported: asyncio.Event = field(default_factory=asyncio.Event)  # set at every report; waiters clear it

    @property
    def complete(self) -> bool:
        return len(self.ranked) == len(self.uids)

    def report(self, uid: str, candidates: tuple[Candidate, ...], reserve: Fraction | None) -> None:
        """A group has settled; `reserve` is None if it can wait for others."""
        self.ranked[uid] = candidates
        if self.bucket is not None and reserve is not None:
            self.settled[uid], self.selected[uid] = self.bucket.settle_at_once(uid, candidates, reserve)
        elif self.bucket is not None:
            self.settled[uid] = self.bucket.settle(uid, candidates, len(self.uids) - len(self.ranked))
            self.selected = dict(self.bucket.selected)
        if self.complete:
            self.close()
        self.reported.set()

    def close(self) -> None:
        """Share what there is among what has been reported, questions in batch order."""
        self.closed = True
        if self.bucket is None:
            self.selected = allocate({uid: self.ranked[uid] for uid in self.uids if uid in self.ranked}, self.limit)
        elif all(settlement.reserve is None for settlement in self.settled.values()):
            self.bucket.close(self.uids)
            self.selected = dict(self.bucket.selected)


class BudgetCoordinator:
    """Who may resample. Pure asyncio; the manager runs it as a Ray actor.

    Args:
        config: the algorithm's settings.
        rollouts_per_question: N.
        patience: seconds without a report after which the round is closed without the missing groups.
        asynchronous: groups are trained before their call is through: with `streaming`, one account for the whole run,
            and no group waits for another.
    """

    def __init__(
        self,
        config: AxpoConfig,
        rollouts_per_question: int,
        patience: float = PATIENCE_S,
        *,
        asynchronous: bool = False,
    ) -> None:
        self._config, self._num_rollouts, self._patience = config, rollouts_per_question, patience
        self._account = self._new_bucket() if asynchronous else None
        self._rounds: dict[str, Round] = {}
        self._errors: Counter[str] = Counter()

    async def begin(self, uids: Sequence[str]) -> None:
        """Open a round for the B questions `uids`, in batch order; earlier rounds that are over are forgotten."""
        self._rounds = {uid: earlier for uid, earlier in self._rounds.items() if not earlier.closed}
        limit = max_prefixes(len(uids), self._num_rollouts, self._config)
        opened = Round(uids=tuple(uids), limit=limit, bucket=self._account or self._new_bucket())
        self._rounds.update(dict.fromkeys(uids, opened))

    def _new_bucket(self) -> TokenBucket | None:
        return TokenBucket(self._config, self._num_rollouts) if self._config.allocation == "streaming" else None

    async def continue_after(self, order: int) -> None:
        """Go on after a restart: groups that settled before it, up to number `order`, may be trained with new ones.
        One number is left out, so that the audit takes no new group for the next one of the old account.
        """
        if self._account is not None:
            self._account.settled = max(self._account.settled, order + 2)

    async def allocate(self, uid: str, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Report a group's ranked candidates and wait for its share, with streaming its first; with nothing to resample
        there is no wait.

        Raises:
            ValueError: a uid that no `begin` announced.
        """
        if uid not in self._rounds:
            raise ValueError(f"coordinator: got uid {uid!r}, expected one of the {len(self._rounds)} of this round")
        its_round = self._rounds[uid]
        if its_round.closed:
            logger.warning("question %s reported after its round was closed; it resamples nothing", uid)
            return ()
        its_round.report(uid, tuple(candidates), self._reserve(its_round))
        while candidates and self._account is None and not (its_round.closed or its_round.selected.get(uid)):
            await self._wait(its_round)
        return its_round.selected.get(uid, ())

    async def more(self, uid: str, already: int) -> tuple[Candidate, ...]:
        """What a group gets beyond its first `already` prefixes, as soon as it does; () once its round is through."""
        if self._account is not None:
            return ()  # it was decided on at once
        its_round = self._rounds[uid]
        while not its_round.closed and len(its_round.selected.get(uid, ())) == already:
            await self._wait(its_round)
        return its_round.selected.get(uid, ())[already:]

    def _reserve(self, its_round: Round) -> Fraction | None:
        """Where groups cannot wait, first prefixes of as many groups as a call has come before second ones."""
        return self._account.deposit(len(its_round.uids)) if self._account is not None else None

    async def decide(self, uid: str, candidates: Sequence[Candidate]) -> Decisions:
        """`allocate`, and what the trace will say of it: a later `begin` may forget the round."""
        its_round = self._rounds.get(uid)
        await self.allocate(uid, candidates)
        return self._told({uid: its_round} if its_round is not None else {})

    async def may_speculate(self, uid: str) -> bool:
        """Whether the group may continue a prefix before it has settled: never more at once than the budget has."""
        its_round = self._rounds.get(uid)
        if its_round is None or its_round.closed or len(its_round.speculating) >= its_round.limit:
            return False
        its_round.speculating.add(uid)
        return True

    async def end_speculation(self, uid: str) -> None:
        """The group's was thrown away: another group may have its place."""
        if uid in self._rounds:
            self._rounds[uid].speculating.discard(uid)

    async def decisions(self, uids: Sequence[str]) -> Decisions:
        """What was reported and decided, for the step's summary."""
        return self._told({uid: self._rounds[uid] for uid in uids if uid in self._rounds})

    def _told(self, rounds: Mapping[str, Round]) -> Decisions:
        settled = [its_round.settled[uid] for uid, its_round in rounds.items() if uid in its_round.settled]
        return Decisions(
            ranked={uid: its_round.ranked.get(uid, ()) for uid, its_round in rounds.items()},
            selected={uid: its_round.selected.get(uid, ()) for uid, its_round in rounds.items()},
            settled=tuple(sorted(settled, key=lambda settlement: settlement.order)),
        )

    async def failed(self, error: str) -> None:
        """A session raised and left no rollout: told by its worker, for verl only logs it."""
        self._errors[error] += 1

    async def take_errors(self) -> Counter[str]:
        """The errors told since the last call, with how often each was."""
        told, self._errors = self._errors, Counter()
        return told

    async def _wait(self, open_round: Round) -> None:
        """Until the next report; close the round when none comes."""
        open_round.reported.clear()
        try:
            await asyncio.wait_for(open_round.reported.wait(), self._patience)
        except asyncio.TimeoutError:
            if not open_round.closed:
                missing = [uid for uid in open_round.uids if uid not in open_round.ranked]
                logger.error(
                    "no group has reported for %.0f s; sharing the budget without %d groups: %s",
                    self._patience, len(missing), missing,
                )  # fmt: skip
                open_round.close()
                open_round.reported.set()
