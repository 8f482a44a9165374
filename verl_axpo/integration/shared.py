"""Work that the trajectories of a question share: images decoded, prompts tokenised and features computed once.

verl does each of these for every row, twice where a reward is computed; with N rollouts and K continuations of an image
that is most of a worker's time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from verl_axpo.integration.turn_client import Resume

T = TypeVar("T")
CONTEXT = "axpo_context"  # the keyword under which a worker hands a `LoopContext` to its agent loop


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
    """The processor's output for a question's own images, kept while its group runs.

    Lists are compared by the identity of their images. One with a tool's image in it belongs to a single row, so that
    nothing would ever ask for it again; at two million pixels an image it would hold 46 MiB until it was pushed out.
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

    def __call__(self, images: Sequence[Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """`compute()`, or its earlier result for the same images; a new dict each time, for verl takes keys out."""
        key = _identities(images)
        if key not in self._kept:
            return compute()
        known = self._kept[key]
        if known is None:
            known = self._kept[key] = compute()
        return dict(known)


def _identities(images: Sequence[Any]) -> tuple[int, ...]:
    return tuple(id(image) for image in images)
