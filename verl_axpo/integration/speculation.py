"""Continuations that are begun before their group has settled: a guess -> K continuations -> used, or thrown away.

    rollout.py: a session ends -> core.ranking.guess -> Speculation -> barrier -> its rows, or tokens that were wasted

Their seeds and sessions are functions of the source, so what is used is what would have been sampled after the barrier.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.ranking import guess
from verl_axpo.core.types import Candidate
from verl_axpo.integration.turn_client import GenerateClient

if TYPE_CHECKING:
    from verl.workers.rollout.replica import TokenOutput

    from verl_axpo.integration.group import Row, RunningGroup

Rows = list["Row"]
Continuations = Callable[[int, "Tally"], Awaitable[Rows]]


class NotWanted(Exception):
    """A continuation ends here, for its speculation was thrown away."""


@dataclass(slots=True)
class Tally:
    """What the continuations of a speculation have generated (tokens), and whether they are still wanted."""

    wanted: bool = True
    tokens: int = 0


class TalliedClient:
    """A client whose requests are counted, and refused once their speculation is not wanted.

    A request that runs goes on to its end: verl makes its id where we cannot see it, so nobody could abort it alone.
    """

    def __init__(self, client: GenerateClient, tally: Tally) -> None:
        self._client, self._tally = client, tally

    async def generate(self, request_id: str, *, prompt_ids: list[int], **kwargs: Any) -> "TokenOutput":
        """See `LLMServerClient.generate`.

        Raises:
            NotWanted: the speculation was thrown away.
        """
        if not self._tally.wanted:
            raise NotWanted
        output = await self._client.generate(request_id, prompt_ids=prompt_ids, **kwargs)
        self._tally.tokens += len(output.token_ids)
        return output


@dataclass(slots=True, kw_only=True)
class Speculation:
    """K continuations of the prefix of `session`; `work` returns their rows, or None if they were not begun."""

    session: int
    tally: Tally
    work: asyncio.Task[Rows | None]
    used: bool = False

    def discard(self) -> None:
        """Begin no further turn."""
        self.tally.wanted = False


class Speculator:
    """The speculations of a worker in a step.

    Every session that has ended has left the engine room for one continuation: so many run at most. A group continues
    one prefix at a time: the first of its ranking once it has settled, and before that the one that is likely to be.
    Until half of a group has ended the guess would mostly be wrong.

    Args:
        config: the algorithm's settings.
        coordinator: the step's, which knows how many groups its budget has places for.
    """

    def __init__(self, config: AxpoConfig, coordinator: Any) -> None:
        self._config, self._coordinator = config, coordinator
        self._room = 0  # sessions that have ended, less the continuations that run in their place

    def session_ended(self, group: "RunningGroup", continuations: Continuations) -> None:
        """Continue the prefix that is likely to be selected, and give up another.

        Args:
            group: other sessions of it go on.
            continuations: session of a source, tally -> the rows of its K continuations.
        """
        self._room += 1
        if 2 * group.ended >= group.size:
            self._aim(group, guess(group.rollouts(), self._config), continuations)

    def settled(self, group: "RunningGroup", candidates: Sequence[Candidate], continuations: Continuations) -> None:
        """Continue the first of its candidates while it waits for the other groups."""
        self._room += 1
        self._aim(group, next(iter(candidates), None), continuations)

    def _aim(self, group: "RunningGroup", target: Candidate | None, continuations: Continuations) -> None:
        running = group.wanted_speculation
        if running is not None and (target is None or running.session != target.session):
            running.discard()
            running = None
        if running is None and target is not None and self._room >= self._config.num_continuations:
            self._room -= self._config.num_continuations
            tally = Tally()
            work = asyncio.create_task(self._continue(group, tally, partial(continuations, target.session, tally)))
            group.speculations.append(Speculation(session=target.session, tally=tally, work=work))

    async def _continue(
        self, group: "RunningGroup", tally: Tally, continuations: Callable[[], Awaitable[Rows]]
    ) -> Rows | None:
        """The rows; None where the budget has no place for them."""
        try:
            if await self._coordinator.may_speculate.remote(group.uid):
                return await continuations()
            tally.wanted = False  # the next session that ends asks again
            return None
        finally:
            self._room += self._config.num_continuations

    async def end(self, group: "RunningGroup") -> int:
        """Wait until nothing goes on that the group does not use; the tokens that were generated for nothing."""
        unused = [speculation for speculation in group.speculations if not speculation.used]
        for speculation in unused:
            speculation.discard()
        await asyncio.gather(*(speculation.work for speculation in unused), return_exceptions=True)
        if unused:
            self._coordinator.end_speculation.remote(group.uid)  # not awaited: at worst a place stays taken
        return sum(speculation.tally.tokens for speculation in unused)
