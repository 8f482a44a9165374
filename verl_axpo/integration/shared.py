"""Work that the trajectories of a question share: images decoded, prompts tokenised and features computed once.

verl does each of these for every row, twice where a reward is computed; with N rollouts and K continuations of an image
that is most of a worker's time.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from verl_axpo.integration.turn_client import Resume

T = TypeVar("T")
CONTEXT = "axpo_context"  # the keyword under which a worker hands a `LoopContext` to its agent loop
MAX_FEATURES = 256  # image lists kept per worker: those of the rows in flight


class Once:
    """Runs each named coroutine once; who asks later, or meanwhile, gets the same result (or the same error)."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Future[Any]] = {}

    async def __call__(self, name: str, compute: Callable[[], Awaitable[T]]) -> T:
        if name not in self._tasks:
            self._tasks[name] = asyncio.ensure_future(compute())
        # Shielded: a trajectory that is cancelled must not cancel what the others wait for
        result: T = await asyncio.shield(self._tasks[name])
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopContext:
    """What a worker tells the agent loop beyond the sample: where to resume from, and what the group shares."""

    resume: Resume | None = None
    shared: Once = field(default_factory=Once)


class FeatureMemo:
    """The processor's output by the images that went in, compared by identity; the least recently used goes first."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, ...], tuple[Sequence[Any], dict[str, Any]]] = OrderedDict()

    def __call__(self, images: Sequence[Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """`compute()`, or its earlier result for the same images; a new dict each time, for verl takes keys out."""
        key = tuple(id(image) for image in images)
        if key not in self._known:
            self._known[key] = (tuple(images), compute())  # holding the images keeps their ids theirs
            if len(self._known) > MAX_FEATURES:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return dict(self._known[key][1])
