"""A group while its sessions run: what they share, what they leave, and how the worker waits for them.

sessions end -> RunningGroup.trajectories -> (rollout.py: explore) -> RunningGroup.continuations -> rows
"""

import asyncio
from collections.abc import Awaitable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TypeVar

from verl_axpo.core.types import Rollout
from verl_axpo.integration.batch_row import BatchRow
from verl_axpo.integration.coordinator import Decisions
from verl_axpo.integration.features import FeatureCache
from verl_axpo.integration.shared import SharedWork
from verl_axpo.integration.speculation import Speculation
from verl_axpo.integration.trajectory import Trajectory

T = TypeVar("T")

Row = tuple[Trajectory, BatchRow]  # what is published of a trajectory, and what AXPO knows of it


@dataclass(slots=True, kw_only=True)
class RunningGroup:
    """A group while its sessions run. The last session to end explores and publishes; the others wait for that."""

    uid: str
    size: int
    ended: int = 0  # sessions, those that raised included
    shared: SharedWork = field(default_factory=SharedWork)
    trajectories: dict[int, Trajectory] = field(default_factory=dict)  # by session
    continuations: dict[int, list[Row]] = field(default_factory=dict)  # by source session
    published: asyncio.Event = field(default_factory=asyncio.Event)
    reported: bool = False  # to the coordinator
    candidates: int = 0  # that were reported
    allocated: int = 0  # of them, so far
    decisions: Decisions | None = None  # that the coordinator made about it
    speculations: list[Speculation] = field(default_factory=list)
    features: ExitStack | None = None  # open while the cache keeps those of the question's images

    def rollouts(self) -> list[Rollout]:
        """What the trigger and the ranking see, in the order of sessions."""
        return [self.trajectories[session].as_rollout() for session in sorted(self.trajectories)]

    def keep_features(self, cache: FeatureCache, trajectory: Trajectory) -> None:
        """From the first scored session on: the question's own images, the same objects in all (`shared`)."""
        if self.features is None:
            self.features = ExitStack()
            self.features.enter_context(cache.keeping(trajectory.images[: trajectory.prefix_images]))

    @property
    def wanted_speculation(self) -> Speculation | None:
        """The one that goes on; the others were given up."""
        return next((each for each in self.speculations if each.tally.wanted), None)

    def close(self) -> None:
        """Let the features go."""
        if self.features is not None:
            self.features.close()


async def gather_all(work: Iterable[Awaitable[T]]) -> list[T]:
    """All results, in order, or the first error once all have ended.

    With a bare `gather` the others would go on after verl has marked their group as failed: rows that nobody trains or
    clears, requests to servers that are being put to sleep.
    """
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
