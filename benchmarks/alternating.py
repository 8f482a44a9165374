"""Loaded into a training (`VERL_USE_EXTERNAL_MODULES`): its steps take turns with several settings of `algorithm.axpo`.

    step s of verl's trainer -> arm s mod A -> trainer, coordinator and rollout workers use its settings
                             -> every A steps the next questions; the arms of a round ask the same, with the same seeds

For the synchronous trainer at learning rate 0: then the arms of a round have the same rollouts, and only what AXPO adds
to them differs. The last arm of a round and the first of the next see the machine within seconds of each other.
"""

import json
import os
from typing import Any

import ray
from wrapt import register_post_import_hook

from verl_axpo.core.config import AxpoConfig

ARMS = "AXPO_BENCHMARK_ARMS"  # the variable that has them: a JSON list of mappings, each what differs


def arms() -> list[dict[str, Any]]:
    """The settings that each arm changes."""
    told: list[dict[str, Any]] = json.loads(os.environ[ARMS])
    return told


def round_of(step: int) -> int:
    """The round of a step; both count from 1."""
    return (step - 1) // len(arms()) + 1


def take_turns(sampling: Any) -> None:
    """The trainer tells everybody before a step which arm it is of, and keeps the questions for a round."""
    trainer = sampling.SamplingTrainer
    begin, fetch = trainer.step, trainer._fetch_one_gen_batch

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.base = getattr(self, "base", self.axpo)
        changed = arms()[(self.global_steps - 1) % len(arms())]
        self.axpo = AxpoConfig.from_mapping({**{name: getattr(self.base, name) for name in _names()}, **changed})
        manager = self.agent_loop_manager
        ray.get([actor.use.remote(self.axpo) for actor in (*manager.agent_loop_workers, manager.coordinator)])
        return begin(self, *args, **kwargs)

    def fetch_for_round(self: Any) -> Any:
        if (self.global_steps - 1) % len(arms()) == 0 or not hasattr(self, "kept"):
            self.kept = fetch(self).clone()
        return self.kept.clone()

    trainer.step, trainer._fetch_one_gen_batch = step, fetch_for_round


def _names() -> list[str]:
    return list(AxpoConfig.__dataclass_fields__)


def use_in_worker(worker: Any) -> None:
    """A rollout worker's settings; seeds are those of the round."""

    async def use(self: Any, config: AxpoConfig) -> None:
        self.axpo = config

    worker.AxpoAgentLoopWorker.use = use
    seed = worker.agent_loop.request_seed
    worker.agent_loop.request_seed = lambda run, step, *rest: seed(run, round_of(step), *rest)


def use_in_coordinator(coordinator: Any) -> None:
    """The coordinator's settings."""

    async def use(self: Any, config: AxpoConfig) -> None:
        self._config = config

    coordinator.BudgetCoordinator.use = use


register_post_import_hook(take_turns, "verl_axpo.integration.sampling")
register_post_import_hook(use_in_worker, "verl_axpo.integration.worker")
register_post_import_hook(use_in_coordinator, "verl_axpo.integration.coordinator")
