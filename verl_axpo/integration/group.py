"""A group while its sessions run: what they share, what they leave, and how the hook waits for them.

sessions settle -> GroupRun.sessions -> (rollout.py: explore) -> GroupRun.continuations -> rows
"""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

from verl.experimental.agent_loop import AgentLoopOutput

from verl_axpo.core.types import Group
from verl_axpo.integration.lineage import BatchRow, Episode, Session
from verl_axpo.integration.shared import FeatureMemo, Once

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyRow:
    """A row that only has to be put into verl's queue: what is trained on, the sample's fields, what AXPO knows."""

    output: AgentLoopOutput
    kwargs: Mapping[str, Any]
    row: BatchRow


@dataclass(slots=True, kw_only=True)
class GroupRun:
    """A group while its sessions run. The last one to settle explores and publishes; the others wait for that."""

    size: int
    settled: int = 0
    shared: Once = field(default_factory=Once)
    sessions: dict[int, Session] = field(default_factory=dict)
    continuations: dict[int, list[ReadyRow]] = field(default_factory=dict)  # by source session
    published: asyncio.Event = field(default_factory=asyncio.Event)
    reported: bool = False
    features: ExitStack | None = None  # open while the memo keeps those of the question's images

    def as_rollouts(self, uid: str) -> Group:
        """What the trigger and the ranking see, in the order of sessions."""
        return Group(uid=uid, rollouts=tuple(self.sessions[at].as_rollout() for at in sorted(self.sessions)))

    def keep_features(self, memo: FeatureMemo, output: AgentLoopOutput, episode: Episode) -> None:
        """From the first scored session on: the question's own images, the same objects in all (`shared`)."""
        if self.features is None:
            self.features = ExitStack()
            images = (output.multi_modal_data or {}).get("images") or []
            self.features.enter_context(memo.keeping(images[: episode.prefix_images]))


async def settled(work: Iterable[Awaitable[T]]) -> list[T]:
    """All results, in order, or the first error once all have ended.

    With a bare `gather` the others would go on behind a group that verl has already marked as failed: rows that nobody
    trains or clears, requests to servers that are being put to sleep.
    """
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


def check_image_features(processor: Any, inputs: dict[str, Any], input_ids: Any) -> None:
    """Invariant 6: as many image features as image tokens.

    Raises:
        ValueError: they differ; training on the row would crash the model or, worse, shift its images.
    """
    grids = inputs.get("image_grid_thw")
    if processor is None or grids is None:
        return
    features = int((grids.prod(dim=-1) // processor.image_processor.merge_size**2).sum())
    tokens = int((input_ids == processor.image_token_id).sum())
    if features != tokens:
        raise ValueError(f"row: got {features} image features for {tokens} image tokens, expected as many")
