"""Work that the trajectories of a question share: images decoded, prompts tokenised and features computed once.

verl does each of these for every row, twice where a reward is computed; with N rollouts and K continuations of an image
that is most of a worker's time.

    worker: `running_in(LoopContext(...))` -> verl -> agent loop: `loop_context()`
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
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


class FeatureCache:
    """The processor's output for a question's own images, kept while its group runs.

    Lists are compared by the identity of their images. A list with a tool's image belongs to a single row: nothing
    would ask for it again, and at two million pixels an image it would hold 46 MiB until it was pushed out.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, ...], dict[str, Any] | None] = {}  # None: not computed yet

    @contextmanager
    def keeping(self, images: Sequence[Any]) -> Iterator[None]:
        """Within, what is computed for these very images is kept; this holds them, so that their ids stay theirs."""
        key = _identities(images)
        self._kept[key] = None
        try:
            yield
        finally:
            self._kept.pop(key, None)  # questions without images share the empty key

    def features(self, images: Sequence[Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """`compute()`, or its earlier result for the same images; a new dict each time, for verl takes keys out."""
        key = _identities(images)
        if key not in self._kept:
            return compute()
        kept = self._kept[key]
        if kept is None:
            kept = self._kept[key] = compute()
        return dict(kept)


def _identities(images: Sequence[Any]) -> tuple[int, ...]:
    return tuple(id(image) for image in images)
