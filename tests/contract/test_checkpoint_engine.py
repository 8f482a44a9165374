"""The CPU platform's checkpoint engine: from one sender to several receivers, and what verl asks of an engine."""

import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from verl.checkpoint_engine import CheckpointEngineRegistry
from verl.checkpoint_engine.base import CheckpointEngine, CheckpointEngineManager, CheckpointEngineWorker
from verl.trainer.ppo.v1 import PPOTrainerSeparateAsync
from verl.workers.engine_workers import ActorRolloutRefWorker

from verl_axpo.platforms import checkpoint_engine
from verl_axpo.platforms.checkpoint_engine import NAME, GlooCheckpointEngine

WEIGHTS = [
    ("float", torch.arange(6.0).reshape(2, 3)),
    ("half", torch.tensor([1.5, -2.0], dtype=torch.bfloat16)),
    ("scalar", torch.tensor(3)),
    ("transposed", torch.arange(6.0).reshape(2, 3).T),
    ("empty", torch.empty(0, 4)),
]


def update(sender: GlooCheckpointEngine, idle: GlooCheckpointEngine, receivers: list[GlooCheckpointEngine]) -> Any:
    """An update as `CheckpointEngineManager` makes it, of 2 actor ranks; what each receiver got."""
    engines = [sender, idle, *receivers]
    metadata = [engine.prepare() for engine in engines]
    actors, rollouts = GlooCheckpointEngine.build_topology(2, len(receivers), metadata)
    settings = [
        {name: values[rank] for name, values in kwargs.items()}
        for kwargs, size in ((actors, 2), (rollouts, len(receivers)))
        for rank in range(size)
    ]

    async def received(engine: GlooCheckpointEngine) -> list[tuple[str, torch.Tensor]]:
        return [weight async for weight in engine.receive_weights(global_steps=3)]

    with ThreadPoolExecutor(len(engines)) as pool:
        list(pool.map(lambda engine, kwargs: engine.init_process_group(**kwargs), engines, settings))
        sent = [pool.submit(asyncio.run, engine.send_weights(iter(WEIGHTS), global_steps=3)) for engine in engines[:2]]
        got = list(pool.map(lambda engine: asyncio.run(received(engine)), receivers))
        assert [future.result(timeout=60) for future in sent] == [None, None]
    for engine in engines:
        engine.finalize()
    return got


@pytest.mark.parametrize("number", [1, 2])
def test_every_receiver_gets_what_was_sent_update_after_update(number: int) -> None:
    sender, idle = GlooCheckpointEngine(1, is_master=True), GlooCheckpointEngine(1)
    receivers = [GlooCheckpointEngine(1) for _ in range(number)]
    for _ in range(2):
        for got in update(sender, idle, receivers):
            assert [name for name, _ in got] == [name for name, _ in WEIGHTS]
            for (_, tensor), (_, original) in zip(got, WEIGHTS, strict=True):
                assert tensor.dtype == original.dtype
                assert torch.equal(tensor, original)


def test_verl_finds_it_and_calls_what_it_has() -> None:
    assert CheckpointEngineRegistry.get(NAME) is GlooCheckpointEngine
    assert not inspect.isabstract(GlooCheckpointEngine)
    for name in CheckpointEngine.__abstractmethods__:
        ours, theirs = (inspect.signature(getattr(owner, name)) for owner in (GlooCheckpointEngine, CheckpointEngine))
        if name != "init_process_group":  # its arguments are those of `build_topology`
            assert list(ours.parameters) == list(theirs.parameters)


def test_verl_makes_and_drives_an_engine_as_it_did() -> None:
    assert "is_master=(torch.distributed.get_rank() == 0)" in inspect.getsource(ActorRolloutRefWorker)
    assert "backend, bucket_size=bucket_size, **engine_kwargs" in inspect.getsource(CheckpointEngineWorker.__init__)
    update_weights = inspect.getsource(CheckpointEngineManager.update_weights)
    order = ["abort_replicas()", "build_process_group(", "actor_wg.update_weights(", '"finalize"', "resume_generation"]
    assert sorted(order, key=update_weights.rindex) == order


def test_no_engine_of_verls_reaches_another_process_on_a_cpu() -> None:
    """When this fails, an engine of verl reaches another process on a CPU, and our `gloo` can go."""
    theirs = {
        name for name, engine in CheckpointEngineRegistry._registry.items() if "verl_axpo" not in engine.__module__
    }
    assert theirs <= {"naive", "nccl", "hccl", "nixl", "kimi_ckpt_engine", "mooncake", "delta_sharded"}
    assert 'checkpoint_engine.backend != "naive"' in inspect.getsource(PPOTrainerSeparateAsync.__init__)
    assert checkpoint_engine.NAME not in theirs
