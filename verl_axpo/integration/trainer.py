"""verl's synchronous V1 trainer with AXPO's rows in the batch: their advantages, weights, metrics and trace.

    sampled batch -> balance, deal -> its rows announced -> estimator -> weights -> update in GRPO's mini-batches

Nothing of verl's trainer is copied: each override adds to what `super()` does, and does nothing when no row is AXPO's.
"""

import math
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any

import ray
import torch
import transfer_queue as tq
from omegaconf import DictConfig, open_dict
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import PPOTrainerSync, register_trainer
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.utils import tensordict_utils as tu

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Status
from verl_axpo.integration.batch_row import AXPO_FIELD, BatchRow
from verl_axpo.integration.coordinator import Decisions
from verl_axpo.integration.estimator import announced
from verl_axpo.integration.lost import check_lost, failed_sessions
from verl_axpo.integration.mini_batches import count_grpo_tokens, dealt, session_of, split_evenly
from verl_axpo.integration.step_report import batch_metrics, finished_records, length_metrics, step_summary
from verl_axpo.tools.parser import TAGS
from verl_axpo.trace.writer import TraceWriter

TRAINER_MODE = "axpo_sync"
Sampled = tuple[KVBatchMeta, dict[str, Any]]
HOST_MODE = "sync"  # the mode that everything in verl compares with, and whose settings we run under


@register_trainer(TRAINER_MODE)
class AxpoTrainer(PPOTrainerSync):
    """`trainer.v1.trainer_mode=axpo_sync`."""

    def __init__(self, config: DictConfig) -> None:
        with open_dict(config):
            config.trainer.v1.trainer_mode = HOST_MODE
        super().__init__(config)
        self.axpo = AxpoConfig.from_mapping(config.algorithm.get("axpo") or {})
        self.num_rollouts: int = config.actor_rollout_ref.rollout.n
        self.questions: list[str] = []  # uids of the step, in batch order
        self.fetched: dict[int, int] = {}  # step -> prompts fetched for it
        self.has_extra_rows = False
        self.rows: list[BatchRow | None] = []  # of the step, in batch order; None for verl's padding
        self.expected, self.failed_sessions = 0, 0  # ordinary rollouts of the batch that was sampled last
        self.trace = TraceWriter(self.axpo.trace_dir) if self.axpo.trace_dir else None

    # ------------------------------ rollout ------------------------------

    def on_train_begin(self) -> None:
        """A trace that continues: what a killed run wrote after the checkpoint is moved aside."""
        super().on_train_begin()
        if self.trace is not None:
            self.trace.begin_step(self.global_steps)

    def _fetch_one_gen_batch(self) -> TensorDict:
        """verl's prompts; with a seed their uids are a function of step and position, so that runs compare."""
        batch = super()._fetch_one_gen_batch()
        if self.axpo.seed is not None:
            step, first = self.global_steps, self.fetched.get(self.global_steps, 0)
            tu.assign_non_tensor_stack(batch, "uid", [f"s{step:06d}q{first + at:05d}" for at in range(len(batch))])
            self.fetched = {step: first + len(batch)}
        return batch

    def _submit_batch_to_rollout(self, batch: TensorDict) -> int:
        self.questions = [str(uid) for uid in batch["uid"]]
        return int(super()._submit_batch_to_rollout(batch))

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
            self.failed_sessions = failed_sessions(buffer.failure_keys[partition_id], keys, per_question)
            self._check_lost(f"validation at step {global_steps}" if validates else f"step {global_steps}", infra=0)
        return batch, metrics

    def _check_lost(self, where: str, *, infra: int) -> None:
        check_lost(
            where,
            failed=self.failed_sessions,
            infra=infra,
            expected=self.expected,
            max_share=self.axpo.max_failed_share,
            errors=ray.get(self.agent_loop_manager.coordinator.take_errors.remote()) if self.failed_sessions else {},
        )

    # ------------------------------ batch ------------------------------

    def _balance_batch(self, batch: KVBatchMeta, *args: Any, **kwargs: Any) -> KVBatchMeta:
        self.has_extra_rows = any(session_of(key) >= self.num_rollouts for key in batch.keys)
        balanced: KVBatchMeta = super()._balance_batch(batch, *args, **kwargs)
        if self.has_extra_rows:
            ranks = max(self.actor_rollout_wg._dispatch_info["actor"]) + 1
            balanced.reorder(dealt(balanced.keys, self.num_rollouts, ranks, self.num_updates))
        return balanced

    def _get_required_batch_multiple(self, dp_size: int) -> int:
        """With AXPO's rows: enough padding to split evenly, instead of a whole further mini-batch of it."""
        if not self.has_extra_rows:
            return int(super()._get_required_batch_multiple(dp_size))
        return dp_size * math.lcm(
            self.num_updates * self._micro_batch("actor"), *map(self._micro_batch, ("rollout", "ref"))
        )

    def _micro_batch(self, role: str) -> int:
        """Rows per GPU that `role` processes at once; 1 where micro-batches are cut by tokens."""
        config = self.config.actor_rollout_ref
        if role == "actor":
            return 1 if config.actor.use_dynamic_bsz else int(config.actor.ppo_micro_batch_size_per_gpu)
        if config[role].log_prob_use_dynamic_bsz:
            return 1
        return int(config[role].log_prob_micro_batch_size_per_gpu or 1)

    @property
    def num_updates(self) -> int:
        """GRPO's optimizer updates per pass over the batch."""
        return math.ceil(self.config.data.train_batch_size / self.config.actor_rollout_ref.actor.ppo_mini_batch_size)

    # ------------------------------ advantages and update ------------------------------

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        """verl's, with ours. The trace is queued here, for before `trainer.critic_warmup` verl updates no actor: it is
        written while the policy is updated, and is there if the update fails."""
        self.rows = read_rows(batch)
        ordinary = [row.rollout for row in self.rows if row is not None and row.rollout.source is None]
        infra = sum(rollout.status is Status.INFRA_FAILURE for rollout in ordinary)
        self._check_lost(f"step {self.global_steps}", infra=infra)
        with announced([None if row is None else row.rollout for row in self.rows]) as announcement:
            result = super()._compute_advantage(batch, metrics)
        if self.has_extra_rows and self.config.actor_rollout_ref.actor.loss_agg_mode == "token-mean":
            count_grpo_tokens(batch, self.rows)
        self._write_trace(batch, announcement.advantages_R.tolist())
        return result

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        """verl's, in GRPO's number of updates."""
        if not self.has_extra_rows:
            return super()._update_actor(batch, metrics)
        with split_evenly(self.actor_rollout_wg, self.num_updates):
            return super()._update_actor(batch, metrics)

    # ------------------------------ what happened ------------------------------

    @property
    def step_rows(self) -> list[BatchRow]:
        """The rows of the step without verl's padding."""
        return [row for row in self.rows if row is not None]

    @property
    def uids(self) -> list[str]:
        """The step's questions in batch order."""
        return self.questions or list(dict.fromkeys(row.rollout.uid for row in self.step_rows))

    def _axpo_metrics(self) -> dict[str, float]:
        return batch_metrics(self.step_rows, self.axpo, questions=self.uids, rollouts_per_question=self.num_rollouts)

    def _write_trace(self, batch: KVBatchMeta, advantages: Sequence[float]) -> None:
        """Queue the step's records and summary; `advantages` are those of the batch's rows, padding included."""
        if self.trace is None:
            return
        records = finished_records(
            self.step_rows,
            [advantage for advantage, row in zip(advantages, self.rows, strict=True) if row is not None],
            read_entropies(batch, self.rows),
            self.axpo,
            step=self.global_steps,
            questions=self.uids,
        )
        decisions: Decisions = ray.get(self.agent_loop_manager.coordinator.decisions.remote(self.uids))
        summary = step_summary(
            self.global_steps,
            self.axpo,
            decisions,
            self._axpo_metrics(),
            questions=self.uids,
            rollouts_per_question=self.num_rollouts,
            normalize_std=self.config.algorithm.get("norm_adv_by_std_in_grpo", True),
            tags={tag: self.tokenizer.convert_tokens_to_ids(tag) for tag in TAGS},
        )
        self.trace.write_step(records, summary)
        self.rows = [row and replace(row, record=None) for row in self.rows]  # its tokens are the writer's now

    def _compute_metrics(self, batch: KVBatchMeta, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """AXPO's metrics, and verl's. Those are about the N ordinary rollouts only: continuations count as padding
        there, and the lengths are those that sources had before they were cut."""
        ordinary = copy(batch)
        ordinary.tags = [
            {**tag, "is_padding": True} if session_of(key) >= self.num_rollouts else tag
            for key, tag in zip(batch.keys, batch.tags, strict=True)
        ]
        super()._compute_metrics(ordinary, metrics, *args, **kwargs)
        if self.has_extra_rows:
            metrics.update(length_metrics([row.response_len for row in self.step_rows if row.rollout.source is None]))
        metrics.update(self._axpo_metrics())

    def _save_checkpoint(self) -> None:
        """A checkpoint says that its step is done, so the step's trace is on disk before; else the step stops here."""
        self._flush_trace()
        super()._save_checkpoint()

    def on_step_end(self) -> None:
        """Without a checkpoint, too, a trace that cannot be written stops the step that it is of."""
        self._flush_trace()
        super().on_step_end()

    def _flush_trace(self) -> None:
        if self.trace is not None:
            self.trace.flush()

    def _shutdown_dump_executor(self) -> None:
        super()._shutdown_dump_executor()
        self._flush_trace()


def read_rows(batch: KVBatchMeta) -> list[BatchRow | None]:
    """What each row of the batch is, in batch order; None for verl's padding, which copies a real row's fields."""
    data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=[AXPO_FIELD])
    fields = zip(batch.tags, data[AXPO_FIELD], strict=True)
    return [None if tag.get("is_padding", False) else BatchRow.unpack(field) for tag, field in fields]


def read_entropies(batch: KVBatchMeta, rows: Sequence[BatchRow | None]) -> list[torch.Tensor]:
    """The trainer's exact policy entropy (T,) of each trained token, nats, of every row that is not padding."""
    data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["entropy"])
    return [entropy for entropy, row in zip(data["entropy"].unbind(), rows, strict=True) if row is not None]
