"""How a trainer of verl gets the groups of a step, and what AXPO adds to that.

    data loader -> uids that compare -> rollout -> replay buffer -> a batch, unless too much of it was lost

The questions of a step are those that were sampled for it; the synchronous trainer samples what it has just submitted.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import ray
import transfer_queue as tq
from omegaconf import DictConfig, open_dict
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import PPOTrainer
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.utils import tensordict_utils as tu

from verl_axpo.core.config import AxpoConfig
from verl_axpo.integration import modes
from verl_axpo.integration.batch_row import read_rows
from verl_axpo.integration.lost import check_lost, failed_sessions

Sampled = tuple[KVBatchMeta, dict[str, Any]]


class SamplingTrainer(PPOTrainer):
    """What AXPO adds to the sampling of any trainer of verl; `AxpoTrainer` adds the rest."""

    mode: ClassVar[str]  # verl's name of the trainer, under which its settings are found

    def __init__(self, config: DictConfig) -> None:
        with open_dict(config):
            config.trainer.v1.trainer_mode = self.mode
        super().__init__(config)
        self.axpo = AxpoConfig.from_mapping(config.algorithm.get("axpo") or {})
        self.num_rollouts: int = config.actor_rollout_ref.rollout.n
        self.fetched: dict[int, int] = {}  # step -> prompts fetched for it
        self.expected, self.failed_sessions = 0, 0  # ordinary rollouts of the batch that was sampled last
        self._begin_step()

    def _begin_step(self) -> None:
        self.questions: list[str] = []  # uids of the step, in batch order
        self.errors: Counter[str] = Counter()  # of sessions whose groups were replaced

    def step(self, metrics: dict[str, Any], timing_raw: dict[str, Any]) -> KVBatchMeta:
        """verl's."""
        self._begin_step()
        return super().step(metrics, timing_raw)

    def _fetch_one_gen_batch(self) -> TensorDict:
        """verl's prompts; with a seed their uids are a function of step and position, so that runs compare."""
        batch = super()._fetch_one_gen_batch()
        if self.axpo.seed is not None:
            step, first = self.global_steps, self.fetched.get(self.global_steps, 0)
            tu.assign_non_tensor_stack(batch, "uid", [f"s{step:06d}q{first + at:05d}" for at in range(len(batch))])
            self.fetched = {step: first + len(batch)}
        return batch

    def _reissue_inflight_prompts(self, partition_id: str = "train") -> int:
        """verl's; what a checkpoint holds of settled groups keeps its places before those of new groups."""
        if self.mode != modes.SYNC and (orders := restored_orders(partition_id)):
            ray.get(self.agent_loop_manager.coordinator.continue_after.remote(max(orders)))
        return int(super()._reissue_inflight_prompts(partition_id))

    def _submit_batch_to_rollout(self, batch: TensorDict) -> int:
        if self.mode == modes.SYNC:
            self.questions = [str(uid) for uid in batch["uid"]]
        return int(super()._submit_batch_to_rollout(batch))

    def _add_prompts_to_generate(self, num_prompts: int) -> int:
        """verl's warm-up, and what replaces failed and stale groups. If a service is down, those fail, too, and verl
        would go on for ever.

        Raises:
            RolloutsLostError: too many sessions failed since the step began.
        """
        self.errors += self._take_errors()
        expected = self.config.data.train_batch_size * self.num_rollouts
        self._check_lost(self.errors.total(), expected, self.errors)
        return int(super()._add_prompts_to_generate(num_prompts))

    def _build_replay_buffer(self) -> ReplayBuffer:
        buffer = super()._build_replay_buffer()
        buffer.sample = partial(self._sample, buffer, buffer.sample)
        return buffer

    def _sample(
        self,
        buffer: ReplayBuffer,
        sample: Callable[..., Sampled],
        *,
        global_steps: int,
        partition_id: str,
        batch_size: int,
    ) -> Sampled:
        """verl's batch, of training or validation, unless too many sessions failed: verl goes on with what is left.

        Raises:
            RolloutsLostError: too many failed.
        """
        validates = partition_id == "val"
        per_question = self.config.actor_rollout_ref.rollout.val_kwargs.n if validates else self.num_rollouts
        self.expected, keys = batch_size * per_question, []
        try:
            batch, metrics = sample(global_steps=global_steps, partition_id=partition_id, batch_size=batch_size)
            keys = batch.keys
        finally:  # verl raises where all have failed, without a word on why
            self.failed_sessions = failed = failed_sessions(buffer.failure_keys[partition_id], keys, per_question)
            where = "validation at " if validates else ""
            self._check_lost(failed, self.expected, self._take_errors() if failed else {}, where=where)
        if self.mode != modes.SYNC and not validates:
            self.questions += dict.fromkeys(key.rsplit("_", 2)[0] for key in keys)
        return batch, metrics

    def _take_errors(self) -> Counter[str]:
        told: Counter[str] = ray.get(self.agent_loop_manager.coordinator.take_errors.remote())
        return told

    def _check_lost(
        self, failed: int, expected: int, errors: Mapping[str, int], *, infra: int = 0, where: str = ""
    ) -> None:
        check_lost(
            f"{where}step {self.global_steps}",
            failed=failed,
            infra=infra,
            expected=expected,
            max_share=self.axpo.max_failed_share,
            errors=errors,
        )


def restored_orders(partition_id: str) -> list[int]:
    """The places in the budget's account of the groups whose rows a checkpoint has brought back."""
    keys = [
        key for key, tag in (tq.kv_list(partition_id) or {}).get(partition_id, {}).items() if "is_prompt" not in tag
    ]
    if not keys:
        return []
    rows = read_rows(KVBatchMeta(partition_id=partition_id, keys=keys, tags=[{} for _ in keys]))
    told = [row.decisions for row in rows if row is not None and row.decisions is not None]
    return [settlement.order for decisions in told for settlement in decisions.settled]
