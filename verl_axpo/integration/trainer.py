"""verl's V1 trainers with AXPO's rows in the batch: their advantages, weights, metrics and trace.

    sampled batch -> balance, deal -> its rows announced -> estimator -> weights -> update in GRPO's mini-batches

Nothing of verl's trainers is copied: each override adds to what `super()` does, and does nothing when no row is AXPO's.
A step is what verl calls one: the synchronous trainer submits its questions and waits for them; an asynchronous trainer
samples groups that were submitted before, `separate_async` in several batches per step.
"""

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import ray
from omegaconf import DictConfig, OmegaConf
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import (
    PPOTrainerColocateAsync,
    PPOTrainerSeparateAsync,
    PPOTrainerSync,
    register_trainer,
)

from verl_axpo.core.types import Status
from verl_axpo.integration import modes
from verl_axpo.integration.batch_row import BatchRow, read_entropies, read_rows
from verl_axpo.integration.coordinator import Decisions
from verl_axpo.integration.estimator import announced
from verl_axpo.integration.example_trees import show_examples
from verl_axpo.integration.mini_batches import count_grpo_tokens, dealt, session_of, split_evenly
from verl_axpo.integration.sampling import SamplingTrainer
from verl_axpo.integration.startup import named_syntax
from verl_axpo.integration.step_report import batch_metrics, finished_records, joined, length_metrics, step_summary
from verl_axpo.tools.chat_format import ChatFormat, format_of
from verl_axpo.tools.parser import tag_ids
from verl_axpo.tools.syntax import HERMES
from verl_axpo.trace.records import TrajectoryRecord
from verl_axpo.trace.writer import TraceWriter


class AxpoTrainer(SamplingTrainer):
    """What AXPO adds to a trainer of verl; the classes at the end of this file add it to each."""

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        self.has_extra_rows = False  # in the batch that was sampled last
        self.trace = TraceWriter(self.axpo.trace_dir) if self.axpo.trace_dir else None

    def _begin_step(self) -> None:
        super()._begin_step()
        self.rows: list[BatchRow] = []  # of the step's batches so far, without verl's padding
        self.records: list[TrajectoryRecord] = []  # of the same rows, if there is a trace

    def on_train_begin(self) -> None:
        """A trace that continues: what a killed run wrote after the checkpoint is moved aside."""
        super().on_train_begin()
        if self.trace is not None:
            self.trace.begin_step(self.global_steps)

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
        """Queue the step's records and summary, and show its examples."""
        if self.trace is None:
            return
        turns = self._chat_format()
        summary = step_summary(
            self.global_steps,
            self.axpo,
            self._decisions(),
            self._axpo_metrics(),
            questions=self.uids,
            rollouts_per_question=self.num_rollouts,
            normalize_std=self.config.algorithm.get("norm_adv_by_std_in_grpo", True),
            tags=tag_ids(self.tokenizer, turns.syntax),
            call_syntax=None if turns.syntax is HERMES else turns.syntax.name,
            starts_in_think=bool(turns.opened),
        )
        self.trace.write_step(self.records, summary)
        show_examples(self.records, self.axpo, self.logger.logger, self.global_steps)
        self.records = []  # the writer's now

    def _decisions(self) -> Decisions:
        if self.mode != modes.SYNC:
            return joined(row.decisions for row in self.rows if row.decisions is not None)
        decisions: Decisions = ray.get(self.agent_loop_manager.coordinator.decisions.remote(self.uids))
        return decisions

    def _chat_format(self) -> ChatFormat:
        kwargs, named = self.config.data.get("apply_chat_template_kwargs"), named_syntax(self.config)
        return format_of(self.processor or self.tokenizer, kwargs, named)

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
