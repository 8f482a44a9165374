"""One budget for all rollout workers of a step: every group reports its candidates and learns which it may resample.

    manager.begin(uids) -> workers: allocate(uid, candidates) ... -> barrier -> core.budget -> the selected ones

`exact` allocation ranks all questions together, so a triggered group waits for the last one to report. The barrier
cannot dead-lock: a group that fails reports nothing to resample, and when no group has reported for `patience` seconds
(a worker died) the budget is shared among those that did.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from verl_axpo.core.budget import allocate, max_prefixes
from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Candidate

logger = logging.getLogger(__name__)

PATIENCE_S = 1800.0  # longer than any rollout should take; verl itself would wait for ever


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """uid -> its ranked candidates, and those that got budget."""

    ranked: Mapping[str, tuple[Candidate, ...]]
    selected: Mapping[str, tuple[Candidate, ...]]


@dataclass(slots=True)
class Round:
    """The groups that share one budget: those of one call of the manager's `generate_sequences`."""

    uids: tuple[str, ...]
    limit: int
    ranked: dict[str, tuple[Candidate, ...]] = field(default_factory=dict)
    selected: dict[str, tuple[Candidate, ...]] | None = None
    reported: asyncio.Event = field(default_factory=asyncio.Event)  # set at every report; waiters clear it

    @property
    def complete(self) -> bool:
        return len(self.ranked) == len(self.uids)

    def close(self) -> None:
        """Share the budget among what has been reported, questions in batch order."""
        in_order = {uid: self.ranked[uid] for uid in self.uids if uid in self.ranked}
        self.selected = allocate(in_order, self.limit)


class BudgetCoordinator:
    """The barrier. Pure asyncio; the manager runs it as a Ray actor.

    Args:
        config: the algorithm's settings.
        rollouts_per_question: N.
        patience: seconds without a report after which the round is closed without the missing groups.
    """

    def __init__(self, config: AxpoConfig, rollouts_per_question: int, patience: float = PATIENCE_S) -> None:
        self._config, self._num_rollouts, self._patience = config, rollouts_per_question, patience
        self._rounds: dict[str, Round] = {}
        self._errors: Counter[str] = Counter()

    async def begin(self, uids: Sequence[str]) -> None:
        """Open a round for the B questions `uids`, in batch order; earlier rounds that are over are forgotten."""
        self._rounds = {uid: earlier for uid, earlier in self._rounds.items() if earlier.selected is None}
        opened = Round(uids=tuple(uids), limit=max_prefixes(len(uids), self._num_rollouts, self._config))
        self._rounds.update(dict.fromkeys(uids, opened))

    async def allocate(self, uid: str, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Report a group's ranked candidates and wait for its share; with nothing to resample there is no wait.

        Raises:
            ValueError: a uid that no `begin` announced.
        """
        if uid not in self._rounds:
            raise ValueError(f"coordinator: got uid {uid!r}, expected one of the {len(self._rounds)} of this round")
        its_round = self._rounds[uid]
        if its_round.selected is not None:
            logger.warning("question %s reported after its round was closed; it resamples nothing", uid)
            return ()
        its_round.ranked[uid] = tuple(candidates)
        its_round.reported.set()
        if its_round.complete:
            its_round.close()
        while candidates and its_round.selected is None:
            await self._wait(its_round)
        return its_round.selected.get(uid, ()) if its_round.selected is not None else ()

    async def decisions(self, uids: Sequence[str]) -> Decisions:
        """What was reported and decided, for the step's summary."""
        rounds = {uid: self._rounds[uid] for uid in uids if uid in self._rounds}
        return Decisions(
            ranked={uid: its_round.ranked.get(uid, ()) for uid, its_round in rounds.items()},
            selected={uid: (its_round.selected or {}).get(uid, ()) for uid, its_round in rounds.items()},
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
            if open_round.selected is None:
                missing = [uid for uid in open_round.uids if uid not in open_round.ranked]
                logger.error(
                    "no group has reported for %.0f s; sharing the budget without %d groups: %s",
                    self._patience, len(missing), missing,
                )  # fmt: skip
                open_round.close()
                open_round.reported.set()
