"""The budget's barrier between real Ray processes, one of which dies."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Candidate
from verl_axpo.integration.coordinator import BudgetCoordinator

PATIENCE_S = 3.0
CONFIG = AxpoConfig(budget=0.25, num_continuations=4)


@pytest.fixture
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, address="local", log_to_driver=False)
    yield
    ray.shutdown()


def new_worker() -> Any:
    """A process that reports a group and waits for its share, as a rollout worker does."""

    class Worker:  # a local class, so that Ray sends its code: Ray's processes cannot import the tests
        def pid(self) -> int:
            return os.getpid()

        async def report(self, coordinator: Any, uid: str) -> tuple[Candidate, ...]:
            candidate = Candidate(uid=uid, session=0, score=0.1)
            share: tuple[Candidate, ...] = await coordinator.allocate.remote(uid, (candidate,))
            return share

    return ray.remote(Worker).options(num_cpus=0).remote()


def test_after_a_killed_worker_the_others_get_the_budget_later(cluster: None) -> None:
    coordinator = ray.remote(BudgetCoordinator).options(max_concurrency=8, num_cpus=0).remote(CONFIG, 8, PATIENCE_S)
    alive, dies = new_worker(), new_worker()
    dead_pid = ray.get(dies.pid.remote())
    ray.get(coordinator.begin.remote(["alive", "dead"]))  # floor(0.25 * 2 * 8 / 4) = 1 prefix
    os.kill(dead_pid, signal.SIGKILL)
    started = time.monotonic()
    share = ray.get(alive.report.remote(coordinator, "alive"), timeout=60)
    assert [candidate.uid for candidate in share] == ["alive"]
    assert time.monotonic() - started >= PATIENCE_S
    ray.get(coordinator.begin.remote(["next"]))  # the barrier works in the next step too
    assert ray.get(alive.report.remote(coordinator, "next"), timeout=60) == ()  # floor(0.25 * 1 * 8 / 4) = 0
