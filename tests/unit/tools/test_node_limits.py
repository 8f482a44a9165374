"""The sandbox's limits on a node with several worker processes: for all together, and freed by a dead worker."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from verl_axpo.errors import InfraFailure
from verl_axpo.tools.sandbox import SandboxConfig, SandboxPool, Session
from verl_axpo.tools.sandbox.backends import BACKENDS
from verl_axpo.tools.sandbox.limits import UNCONFINED
from verl_axpo.tools.sandbox.places import NodePlaces

WORKER = """
import asyncio, sys
from verl_axpo.tools.sandbox.places import NodePlaces
async def main():
    places = NodePlaces("test", int(sys.argv[1]), patience_s=0, problem="none is free")
    held = []
    try:
        while True:
            held.append(await places.take())
    except Exception:
        print(len(held), flush=True)
    sys.stdin.read()
asyncio.run(main())
"""


@contextmanager
def holder(count: int, ray: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process of the Ray `ray` that takes all of `count` places that it can get, and how many it got."""
    command = [sys.executable, "-c", WORKER, str(count)]
    environment = os.environ | {"RAY_RAYLET_PID": ray}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
        process.kill()


def places(count: int, patience_s: float = 0.0) -> NodePlaces:
    return NodePlaces("test", count, patience_s=patience_s, problem="none is free")


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> str:
    """A Ray of this test's own, of which this process is a worker."""
    name = f"test-{os.getpid()}"
    monkeypatch.setenv("RAY_RAYLET_PID", name)
    return name


def test_the_processes_of_a_ray_share_the_places_and_others_do_not(ray: str) -> None:
    with holder(5, ray) as (_, taken), holder(5, ray) as (_, left), holder(5, f"{ray}-other") as (_, elsewhere):
        assert (taken, left, elsewhere) == (5, 0, 5)


async def test_a_killed_holder_frees_its_places(ray: str) -> None:
    with holder(3, ray) as (process, taken):
        assert taken == 3
        with pytest.raises(InfraFailure, match="none is free, for 0 s now"):
            await places(3).take()
        process.kill()
        process.wait()
        (await places(3).take()).close()


async def test_a_waiter_gets_the_place_that_becomes_free_in_the_order_of_asking(ray: str) -> None:
    mine = places(1, patience_s=60.0)
    order: list[int] = []

    async def hold(number: int) -> None:
        with await mine.take():
            order.append(number)
            await asyncio.sleep(0)

    held = await mine.take()
    waiters = [asyncio.create_task(hold(number)) for number in range(5)]
    await asyncio.sleep(0.05)
    assert order == []
    waiters[1].cancel()
    held.close()
    await asyncio.gather(*waiters, return_exceptions=True)
    assert order == [0, 2, 3, 4]


async def test_many_places_are_all_found(ray: str) -> None:
    mine = places(100, patience_s=60.0)
    held: list[socket.socket] = [await mine.take() for _ in range(100)]
    assert len({place.getsockname() for place in held}) == 100
    with pytest.raises(InfraFailure):
        await places(100).take()
    for place in held:
        place.close()


async def test_pools_of_several_processes_keep_the_nodes_limits(ray: str) -> None:
    """Two pools stand for two worker processes: they know of each other by the node's places only."""
    config = SandboxConfig(max_sandboxes=2, max_running=1, queue_timeout_s=0.5)
    pools = [SandboxPool(config, BACKENDS[UNCONFINED], preload=()) for _ in range(2)]
    first, second, third = Session(pools[0]), Session(pools[1]), Session(pools[1])
    assert [(await session.run("1 + 1")).text for session in (first, second)] == ["2", "2"]
    with pytest.raises(InfraFailure, match="every sandbox is in use"):
        await third.run("1")
    busy = asyncio.create_task(first.run("import time; time.sleep(2)"))
    await asyncio.sleep(0.5)
    with pytest.raises(InfraFailure, match="too many calls run at once"):
        await second.run("1")
    assert (await busy).status == "ok"
    await first.close()
    assert (await third.run("3")).text == "3"
    for pool in pools:
        await pool.close()


def test_ray_still_names_its_raylet_to_its_workers() -> None:
    """A live Ray was seen to set it in its workers; the name is Ray's own."""
    from ray._private import ray_constants

    assert "RAY_RAYLET_PID" in ray_constants.RAY_INTERNAL_FLAGS
