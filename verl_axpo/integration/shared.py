"""Work that the trajectories of a question share: images decoded and prompts tokenised once, features in `features.py`.

verl does each of these for every row; with N rollouts and K continuations of an image that is most of a worker's time.

    worker: `running_in(LoopContext(...))` -> verl -> agent loop: `loop_context()`
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from verl_axpo.integration.speculation import Tally
from verl_axpo.integration.turn_client import Prefix

T = TypeVar("T")


class SharedWork:
    """Coroutines that run once for a whole group; callers that come later, or meanwhile, get the same result."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Future[Any]] = {}

    async def result(self, name: str, compute: Callable[[], Awaitable[T]]) -> T:
        """What `compute` returned, or raised, for the first caller that gave this name."""
        if name not in self._tasks:
            self._tasks[name] = asyncio.ensure_future(compute())
        # Shielded: a trajectory that is cancelled must not cancel what the others wait for
        result: T = await asyncio.shield(self._tasks[name])
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopContext:
    """What the worker tells an agent loop beyond the sample: the prefix to start from, and what the group shares.

    `source` is the session that a continuation continues. `tally` is there for one that may not be wanted in the end.
    """

    prefix: Prefix | None = None
    source: int | None = None
    tally: Tally | None = None
    shared: SharedWork = field(default_factory=SharedWork)


_context: ContextVar[LoopContext | None] = ContextVar("axpo_loop_context", default=None)


@contextmanager
def running_in(context: LoopContext) -> Iterator[None]:
    """Within, agent loops that this task runs see `context`; verl's call in between has no room for it."""
    token = _context.set(context)
    try:
        yield
    finally:
        _context.reset(token)


def loop_context() -> LoopContext | None:
    """What the worker told; None outside training, where nothing is resampled or shared."""
    return _context.get()
