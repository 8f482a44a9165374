"""verl's V1 trainers with AXPO's rows in the batch: their advantages, weights, metrics and trace.

    sampled batch -> balance, deal -> its rows announced -> estimator -> weights -> update in GRPO's mini-batches

Nothing of verl's trainers is copied: each override adds to what `super()` does, and does nothing when no row is AXPO's.
A step is what verl calls one: the synchronous trainer submits its questions and waits for them; an asynchronous trainer
samples groups that were submitted before, `separate_async` in several batches per step.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import ray
from omegaconf import DictConfig, OmegaConf, open_dict
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import (
    PPOTrainer,
    PPOTrainerColocateAsync,
    PPOTrainerSeparateAsync,
    PPOTrainerSync,
    register_trainer,
)
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.utils import tensordict_utils as tu

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Status
from verl_axpo.integration import modes
from verl_axpo.integration.batch_row import BatchRow, read_entropies, read_rows
from verl_axpo.integration.coordinator import Decisions
from verl_axpo.integration.estimator import announced
from verl_axpo.integration.lost import check_lost, failed_sessions
from verl_axpo.integration.mini_batches import count_grpo_tokens, dealt, session_of, split_evenly
from verl_axpo.integration.step_report import batch_metrics, finished_records, joined, length_metrics, step_summary
from verl_axpo.tools.parser import TAGS
from verl_axpo.trace.records import TrajectoryRecord
from verl_axpo.trace.writer import TraceWriter

Sampled = tuple[KVBatchMeta, dict[str, Any]]


class AxpoTrainer(PPOTrainer):
    """What AXPO adds to a trainer of verl; the classes at the end of this file add it to each."""

    mode: ClassVar[str]  # verl's name of the trainer, under which its settings are found

    def __init__(self, config: DictConfig) -> None:
        with open_dict(config):
            config.trainer.v1.trainer_mode = self.mode
        super().__init__(config)
        self.axpo = AxpoConfig.from_mapping(config.algorithm.get("axpo") or {})
        self.num_rollouts: int = config.actor_rollout_ref.rollout.n
        self.fetched: dict[int, int] = {}  # step -> prompts fetched for it
        self.has_extra_rows = False  # in the batch that was sampled last
        self.expected, self.failed_sessions = 0, 0  # ordinary rollouts of the batch that was sampled last
        self.trace = TraceWriter(self.axpo.trace_dir) if self.axpo.trace_dir else None
        self._begin_step()

    def _begin_step(self) -> None:
        self.questions: list[str] = []  # uids of the step, in batch order
        self.rows: list[BatchRow] = []  # of the step's batches so far, without verl's padding
        self.records: list[TrajectoryRecord] = []  # of the same rows, if there is a trace
        self.errors: Counter[str] = Counter()  # of sessions whose groups were replaced

    def step(self, metrics: dict[str, Any], timing_raw: dict[str, Any]) -> KVBatchMeta:
        self._begin_step()
        return super().step(metrics, timing_raw)

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
        """GRPO's optimizer updates per pass over a batch, of which verl takes `parameter_sync_step` in a step."""
        questions = self.config.data.train_batch_size // self.parameter_sync_step
        return math.ceil(questions / self.config.actor_rollout_ref.actor.ppo_mini_batch_size)

    # ------------------------------ advantages and update ------------------------------

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        """verl's, with ours. The trace is queued here, for before `trainer.critic_warmup` verl updates no actor: it is
        written while the policy is updated, and is there if the update fails."""
        rows = read_rows(batch)
        ordinary = [row.rollout for row in rows if row is not None and row.rollout.source is None]
        infra = sum(rollout.status is Status.INFRA_FAILURE for rollout in ordinary)
        self._check_lost(self.failed_sessions, self.expected, {}, infra=infra)
        with announced([None if row is None else row.rollout for row in rows]) as announcement:
            result = super()._compute_advantage(batch, metrics)
        if self.has_extra_rows and self.config.actor_rollout_ref.actor.loss_agg_mode == "token-mean":
            count_grpo_tokens(batch, rows)
        if self.trace is not None:
            self.records += self._finished_records(batch, rows, announcement.advantages_R.tolist())
        self.rows += [replace(row, record=None) for row in rows if row is not None]  # `self.records` has its tokens
        if self.local_trigger_step == self.parameter_sync_step - 1:
            self._write_trace()
        return result

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        """verl's, in GRPO's number of updates."""
        if not self.has_extra_rows:
            return super()._update_actor(batch, metrics)
        with split_evenly(self.actor_rollout_wg, self.num_updates):
            return super()._update_actor(batch, metrics)

    # ------------------------------ what happened ------------------------------

    @property
    def uids(self) -> list[str]:
        """The step's questions in batch order."""
        return self.questions or list(dict.fromkeys(row.rollout.uid for row in self.rows))

    def _axpo_metrics(self) -> dict[str, float]:
        return batch_metrics(self.rows, self.axpo, questions=self.uids, rollouts_per_question=self.num_rollouts)

    def _finished_records(
        self, batch: KVBatchMeta, rows: Sequence[BatchRow | None], advantages: Sequence[float]
    ) -> list[TrajectoryRecord]:
        """The records of a batch of the step; `advantages` are those of its rows, padding included."""
        return finished_records(
            [row for row in rows if row is not None],
            [advantage for advantage, row in zip(advantages, rows, strict=True) if row is not None],
            read_entropies(batch, rows, computed=not self._bypasses),
            self.axpo,
            step=self.global_steps,
            questions=self.questions or list(dict.fromkeys(row.rollout.uid for row in rows if row is not None)),
        )

    @property
    def _bypasses(self) -> bool:
        """Whether the old log-probs are those of the rollout, so that verl runs no forward pass for them."""
        return bool(OmegaConf.select(self.config, "algorithm.rollout_correction.bypass_mode"))

    def _write_trace(self) -> None:
        """Queue the step's records and summary."""
        if self.trace is None:
            return
        summary = step_summary(
            self.global_steps,
            self.axpo,
            self._decisions(),
            self._axpo_metrics(),
            questions=self.uids,
            rollouts_per_question=self.num_rollouts,
            normalize_std=self.config.algorithm.get("norm_adv_by_std_in_grpo", True),
            tags={tag: self.tokenizer.convert_tokens_to_ids(tag) for tag in TAGS},
        )
        self.trace.write_step(self.records, summary)
        self.records = []  # the writer's now

    def _decisions(self) -> Decisions:
        if self.mode != modes.SYNC:
            return joined(row.decisions for row in self.rows if row.decisions is not None)
        decisions: Decisions = ray.get(self.agent_loop_manager.coordinator.decisions.remote(self.uids))
        return decisions

    def _compute_metrics(self, batch: KVBatchMeta, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """AXPO's metrics, and verl's. Those are about the N ordinary rollouts only: continuations count as padding
        there, and the lengths are those that sources had before they were cut."""
        ordinary = copy(batch)
        ordinary.tags = [
            {**tag, "is_padding": True} if session_of(key) >= self.num_rollouts else tag
            for key, tag in zip(batch.keys, batch.tags, strict=True)
        ]
        super()._compute_metrics(ordinary, metrics, *args, **kwargs)
        lengths = [row.response_len for row in self.rows if row.rollout.source is None]
        if len(lengths) < len(self.rows):  # some of those rows were cut
            metrics.update(length_metrics(lengths))
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


@register_trainer(modes.ours(modes.SYNC))
class AxpoTrainerSync(AxpoTrainer, PPOTrainerSync):
    """`trainer.v1.trainer_mode=axpo_sync`."""

    mode = modes.SYNC


@register_trainer(modes.ours(modes.COLOCATE_ASYNC))
class AxpoTrainerColocateAsync(AxpoTrainer, PPOTrainerColocateAsync):
    """`trainer.v1.trainer_mode=axpo_colocate_async`."""

    mode = modes.COLOCATE_ASYNC


@register_trainer(modes.ours(modes.SEPARATE_ASYNC))
class AxpoTrainerSeparateAsync(AxpoTrainer, PPOTrainerSeparateAsync):
    """`trainer.v1.trainer_mode=axpo_separate_async`."""

    mode = modes.SEPARATE_ASYNC
