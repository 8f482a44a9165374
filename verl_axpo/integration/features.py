"""The features of a row's images, which verl's processor computes: once per question, and never in the event loop.

    row -> `features_ahead`: the processor in a thread -> verl's scoring, or publishing, which finds them in the cache

verl computes them for every row, twice where a reward is computed, and in the event loop: for two million pixels no
rollout of the worker goes on for a third of a second.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from copy import copy, deepcopy
from functools import cached_property, partial
from typing import Any

import torch
from verl.experimental.agent_loop import AgentLoopOutput
from verl.trainer.ppo.v1 import AgentLoopWorkerTQ


class FeatureCache:
    """The processor's output for a question's own images, kept while its group runs.

    Lists are compared by the identity of their images. A list with a tool's image belongs to a single row, and is kept
    while that row is scored or published: at two million pixels an image it holds 46 MiB.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, ...], dict[str, Any] | None] = {}  # None: not computed yet
        self._thread = ThreadPoolExecutor(1, "image-features")  # one: what two rows want at once is computed once

    @contextmanager
    def keeping(self, images: Sequence[Any]) -> Iterator[None]:
        """Within, what is computed for these very images is kept; this holds them, so that their ids stay theirs."""
        key = _identities(images)
        if key in self._kept:  # whoever began to keep it ends that, too
            yield
            return
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
            kept = compute()
            if key in self._kept:  # else its group ended meanwhile
                self._kept[key] = kept
        return dict(kept)

    async def ahead(self, images: Sequence[Any], compute: Callable[[], dict[str, Any]]) -> None:
        """`features` in a thread, so that it can be asked for at once: two million pixels take a third of a second, for
        which no rollout of the worker would go on."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self.features, images, compute)


def _identities(images: Sequence[Any]) -> tuple[int, ...]:
    return tuple(id(image) for image in images)


class FeaturesWorker(AgentLoopWorkerTQ.__ray_metadata__.modified_class):
    """verl's TransferQueue worker (the class inside its `@ray.remote`), whose images are processed in a thread."""

    features: FeatureCache

    @cached_property
    def in_thread(self) -> Any:
        """Computes features in the cache's thread: two threads must not share a tokenizer."""
        twin = copy(self)
        twin.processor, twin.tokenizer = deepcopy((self.processor, self.tokenizer))
        return twin

    def _compute_multi_modal_inputs(self, output: AgentLoopOutput, input_ids: Any) -> dict[str, Any]:
        """verl's, once for the rows that have the question's images only, and checked: features that do not match the
        image tokens never leave.
        """
        compute = partial(super()._compute_multi_modal_inputs, output, input_ids)
        images = only_images(output)
        inputs: dict[str, Any] = self.features.features(images, compute) if images else compute()
        check_image_features(self.processor, inputs, input_ids)
        return inputs

    @asynccontextmanager
    async def features_ahead(self, output: AgentLoopOutput) -> AsyncIterator[None]:
        """Within, verl finds the features of the row's images, which it would compute in the event loop."""
        if not (images := only_images(output)):
            yield
            return
        compute = super(FeaturesWorker, self.in_thread)._compute_multi_modal_inputs
        with self.features.keeping(images):
            await self.features.ahead(images, partial(compute, output, token_ids(output)))
            yield

    def compute_row(self, output: AgentLoopOutput) -> None:
        """Raises whatever publishing would raise about the row's images and positions."""
        input_ids = token_ids(output)
        inputs = self._compute_multi_modal_inputs(output, input_ids)
        self._compute_position_ids(input_ids.unsqueeze(0), torch.ones_like(input_ids).unsqueeze(0), inputs)


def only_images(output: AgentLoopOutput) -> Sequence[Any]:
    """The row's images; none if it has videos or audios next to them."""
    media = output.multi_modal_data or {}
    images: Sequence[Any] = media.get("images") or ()
    return () if media.get("videos") or media.get("audios") else images


def token_ids(output: AgentLoopOutput) -> torch.Tensor:
    """(T,) Of prompt and response, as verl puts them into the batch."""
    return torch.tensor([*output.prompt_ids, *output.response_ids])


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
