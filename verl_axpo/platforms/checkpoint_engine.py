"""verl's checkpoint engine `gloo`: a trainer's weights to rollout replicas in other processes, without an accelerator.

    actor rank 0: store.set(i, name, shape, dtype), broadcast(tensor i) -> every rollout worker -> its vLLM engine

verl's `separate_async` trainer needs an engine other than `naive`, and each that verl has needs a device or a library.
Imported by ``patches.py`` right after ``verl.checkpoint_engine.base``; importing it registers the engine.
"""

import asyncio
import pickle
from collections.abc import AsyncGenerator, Iterable
from datetime import timedelta
from typing import Any

import ray
import torch
from torch.distributed import ProcessGroupGloo, TCPStore  # type: ignore[attr-defined]
from verl.checkpoint_engine.base import CheckpointEngine, CheckpointEngineRegistry

NAME = "gloo"
TIMEOUT = timedelta(minutes=10)  # of a send or a receive: a process that died must not stop the others for ever
Address = tuple[str, int]  # of the store at which sender and receivers meet
Weight = tuple[str, torch.Tensor]


@CheckpointEngineRegistry.register(NAME)
class GlooCheckpointEngine(CheckpointEngine):
    """A new process group for every update: actor rank 0 sends, all rollout workers receive.

    Tensors travel one by one. verl's buckets save memory of a device, and there is none.

    Args:
        bucket_size: bytes; not used.
        is_master: whether this process sends.
    """

    def __init__(self, bucket_size: int, is_master: bool = False) -> None:
        self.is_master = is_master
        # torch's stubs lack half of what the two have; None outside an update
        self.store: Any = None
        self.group: Any = None

    def prepare(self) -> Address | None:
        """The sender opens the store; returns its address there, and None elsewhere."""
        if not self.is_master:
            return None
        host = ray.util.get_node_ip_address().strip("[]")
        self.store = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=TIMEOUT)
        return host, self.store.port

    @classmethod
    def build_topology(
        cls, actor_wg_world_size: int, rollout_world_size: int, metadata: list[Address | None]
    ) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
        """Arguments of `init_process_group`: actor rank 0 is 0, the other actor ranks stay out with -1."""
        size, others = 1 + rollout_world_size, actor_wg_world_size - 1
        actors = {"rank": [0] + [-1] * others, "world_size": [size] * actor_wg_world_size}
        rollouts = {"rank": list(range(1, size)), "world_size": [size] * rollout_world_size}
        return (
            {**actors, "address": [metadata[0]] * actor_wg_world_size},
            {**rollouts, "address": [metadata[0]] * rollout_world_size},
        )

    def init_process_group(self, rank: int, world_size: int, address: Address) -> None:
        """Meet the others; returns when all have come."""
        if rank < 0:
            return
        self.store = self.store or TCPStore(*address, is_master=False, timeout=TIMEOUT)
        self.group = ProcessGroupGloo(self.store, rank, world_size, TIMEOUT)

    def finalize(self) -> None:
        """Close group and store."""
        self.group = self.store = None

    async def send_weights(self, weights: Iterable[Weight], global_steps: int | None = None) -> None:
        """Send every tensor. An actor rank outside the group only walks along: all ranks gather a tensor together."""
        number = 0
        for name, weight in weights:
            if self.group is None:
                continue
            tensor = weight.detach().contiguous()
            self._tell(number, (name, tuple(tensor.shape), tensor.dtype))
            await self._broadcast(tensor)
            number += 1
        self._tell(number, None)

    async def receive_weights(self, global_steps: int | None = None) -> AsyncGenerator[Weight, None]:
        """Yields names and tensors, as they were sent."""
        number = 0
        while told := await asyncio.to_thread(self._told, number):
            name, shape, dtype = told
            tensor = torch.empty(shape, dtype=dtype)
            await self._broadcast(tensor)
            yield name, tensor
            number += 1

    def _tell(self, number: int, told: tuple[str, tuple[int, ...], torch.dtype] | None) -> None:
        if self.store is not None:
            self.store.set(f"weight{number}", pickle.dumps(told))

    def _told(self, number: int) -> Any:
        assert self.store is not None, "a rollout worker is in the group"
        return pickle.loads(self.store.get(f"weight{number}"))  # from our own trainer

    async def _broadcast(self, tensor: torch.Tensor) -> None:
        """From rank 0, into `tensor` of the others."""
        assert self.group is not None, "init_process_group has been called"
        await asyncio.to_thread(self.group.broadcast(tensor, 0).wait)
