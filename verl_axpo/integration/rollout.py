"""The rollouts of a step: verl's manager opens the step's budget and hands the questions to our workers (worker.py)."""

import asyncio
from typing import Any

import ray
from tensordict import TensorDict
from verl.trainer.ppo.v1 import AgentLoopManagerTQ

from verl_axpo.core.config import AxpoConfig
from verl_axpo.integration import modes
from verl_axpo.integration.coordinator import BudgetCoordinator
from verl_axpo.integration.worker import AxpoAgentLoopWorker

MAX_WAITING_GROUPS = 100_000  # groups that may wait at the barrier at once: an actor call each, nearly free


class AxpoAgentLoopManager(AgentLoopManagerTQ):
    """verl's manager with our workers and one coordinator (`rollout.agent.agent_loop_manager_class`)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(AxpoAgentLoopWorker)
        config = AxpoConfig.from_mapping(self.config.algorithm.get("axpo") or {})
        actor = ray.remote(BudgetCoordinator).options(max_concurrency=MAX_WAITING_GROUPS)
        asynchronous = modes.is_asynchronous(self.config)
        self.coordinator = actor.remote(config, self.rollout_config.n, asynchronous=asynchronous)

    async def _init_agent_loop_workers(self) -> None:
        await super()._init_agent_loop_workers()
        await asyncio.gather(*(worker.set_coordinator.remote(self.coordinator) for worker in self.agent_loop_workers))

    def generate_sequences(self, prompts: TensorDict) -> None:
        """Open the budget of these prompts, then dispatch them as verl does."""
        if "validate" not in prompts:
            ray.get(self.coordinator.begin.remote([str(uid) for uid in prompts["uid"]]))
        super().generate_sequences(prompts)
