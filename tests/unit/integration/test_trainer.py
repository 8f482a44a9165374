"""The trainer's parts that need no cluster: what counts as a row, how many updates there are, and the metrics."""

import random
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from omegaconf import OmegaConf
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import PPOTrainerSync

from tests.unit.trace.real import Line, Step, unpack
from verl_axpo.core.config import AxpoConfig
from verl_axpo.integration import batch_row
from verl_axpo.integration import trainer as trainer_module
from verl_axpo.integration.batch_row import AXPO_FIELD, BatchRow
from verl_axpo.integration.coordinator import Decisions
from verl_axpo.integration.estimator import compute_axpo_advantage
from verl_axpo.integration.step_report import length_metrics
from verl_axpo.integration.trainer import AxpoTrainer, AxpoTrainerSync
from verl_axpo.trace import StepSummary, TraceWriter, TrajectoryRecord


def make_trainer(*, dynamic: bool = False, extra: bool = True, mini: int = 16) -> AxpoTrainer:
    trainer = AxpoTrainerSync.__new__(AxpoTrainerSync)
    trainer.logger = SimpleNamespace(logger={})  # verl's `Tracking`, with no logger in it
    trainer.use_critic, trainer.global_steps, trainer.has_extra_rows, trainer.num_rollouts = False, 1, extra, 8
    trainer.local_trigger_step, trainer.parameter_sync_step = 0, 1
    trainer._begin_step()
    micro = {"log_prob_use_dynamic_bsz": dynamic, "log_prob_micro_batch_size_per_gpu": 64}
    trainer.config = OmegaConf.create(
        {
            "data": {"train_batch_size": 32},
            "trainer": {"critic_warmup": 0},
            "actor_rollout_ref": {
                "actor": {"ppo_mini_batch_size": mini, "use_dynamic_bsz": dynamic, "ppo_micro_batch_size_per_gpu": 32},
                "rollout": {"n": 8, **micro},
                "ref": micro,
            },
        }
    )
    return trainer


def test_the_batch_is_padded_to_an_even_split_and_not_to_a_further_mini_batch() -> None:
    # GRPO's multiple is its mini-batch, 16 x 8 rows
    assert make_trainer(extra=False)._get_required_batch_multiple(dp_size=2) == 128
    # 2 updates of whole micro-batches of 32, and log-probs in micro-batches of 64, on each of 2 GPUs
    assert make_trainer()._get_required_batch_multiple(dp_size=2) == 2 * 64
    assert make_trainer(dynamic=True)._get_required_batch_multiple(dp_size=2) == 2 * 2


@pytest.mark.parametrize(("mini", "updates"), [(32, 1), (16, 2), (12, 3)])
def test_the_number_of_updates_is_grpos(mini: int, updates: int) -> None:
    assert make_trainer(mini=mini).num_updates == updates


def test_lengths_are_verls_figures_by_hand() -> None:
    assert length_metrics([2, 6, 0, 6]) == {
        "response_length/mean": 3.5,
        "response_length/max": 6.0,
        "response_length/min": 0.0,
        "response_length/clip_ratio": 0.5,
        "response_length_non_aborted/mean": 14 / 3,
        "response_length_non_aborted/max": 6.0,
        "response_length_non_aborted/min": 2.0,
        "response_length_non_aborted/clip_ratio": 2 / 3,
    }
    assert length_metrics([]) == {}


def test_rows_are_dealt_after_verls_balancing_and_only_where_there_are_rows_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PPOTrainerSync, "_balance_batch", lambda self, batch, *args, **kwargs: batch)
    trainer = make_trainer(mini=16)  # 2 updates
    trainer.actor_rollout_wg = SimpleNamespace(_dispatch_info={"actor": [0, 0]})  # two processes of one rank
    keys = ["a_0_0", "a_1_0", "b_0_0", "b_8_0", "b_9_0", "b_1_0"]

    def balanced(some: list[str]) -> list[str]:
        batch = KVBatchMeta(keys=list(some), tags=[{"key": key} for key in some], partition_id="train")
        after = trainer._balance_batch(batch, metrics={})
        assert [tag["key"] for tag in after.tags] == after.keys
        return list(after.keys)

    assert balanced(keys) == ["a_0_0", "b_0_0", "b_8_0", "a_1_0", "b_1_0", "b_9_0"]
    ordinary = [key for key in keys if key not in ("b_8_0", "b_9_0")]
    assert balanced(ordinary) == ordinary


@pytest.mark.parametrize("hook", ["_save_checkpoint", "on_step_end"])
def test_a_step_whose_trace_cannot_be_written_ends_there_before_its_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hook: str
) -> None:
    reached: list[str] = []
    monkeypatch.setattr(PPOTrainerSync, hook, lambda self: reached.append(hook))
    trainer = make_trainer()
    trainer.trace = TraceWriter(tmp_path)
    summary = StepSummary(
        step=1, config=AxpoConfig(), questions=[], rollouts_per_question=8, budget=0, candidates=[], selected=[]
    )
    trainer.trace.write_step([], summary)
    getattr(trainer, hook)()
    assert reached == [hook]
    assert (tmp_path / "step_000001.summary.json").exists()  # flushed first, not some time later
    (tmp_path / "superseded").write_text("in the way of step 1, which is moved aside")
    trainer.trace.write_step([], summary)
    with pytest.raises(OSError, match="superseded"):
        getattr(trainer, hook)()
    assert reached == [hook]


# ------------------------------ a real step ------------------------------


def packed_row(record: TrajectoryRecord) -> bytes:
    """A traced row as its worker published it: without what only the trainer knows."""
    generated = sum(logprob is not None for logprob in record.logprobs)
    return BatchRow(
        rollout=replace(record.as_rollout(), entropy=None),
        selected=record.selected,
        grpo_tokens=0 if record.source_session is not None else generated,
        response_len=len(record.response_ids),
        generated=generated - (record.prefix_len or 0 if record.source_session is not None else 0),
        prompt_tokens=record.prompt_len,
        cached_tokens=None,
        tool_calls=tuple(record.tool_calls),
        record=replace(record, step=0, entropy=None, recovery=None, advantage=0.0, advantage_prefix=None),
    ).pack()


@pytest.mark.parametrize("updates", [True, False])
def test_a_real_step_gets_the_advantages_metrics_and_trace_that_it_had(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, updates: bool
) -> None:
    """The rows of a traced step, in another order and with verl's padding, through the trainer's own hooks.

    Before `trainer.critic_warmup` verl updates no actor, and nothing else of the step changes.
    """
    real = Step.read(unpack(tmp_path / "real"), 1)
    records = [TrajectoryRecord.from_json(orjson.dumps(line)) for line in real.lines]
    random.Random(0).shuffle(records)
    lengths = [record.prefix_len if record.selected else len(record.response_ids) for record in records]
    entropies = [torch.full((n,), record.entropy or 0.0) for record, n in zip(records, lengths, strict=True)]
    fields = {
        AXPO_FIELD: [*map(packed_row, records), b"padding"],
        "entropy": torch.nested.as_nested_tensor([*entropies, torch.zeros(1)], layout=torch.jagged),
    }
    queue = SimpleNamespace(kv_batch_get=lambda **asked: {name: fields[name] for name in asked["select_fields"]})
    monkeypatch.setattr(batch_row, "tq", queue)
    monkeypatch.setattr(trainer_module, "split_evenly", lambda *_: nullcontext())
    monkeypatch.setattr(trainer_module.ray, "get", lambda told: told)

    def compute_advantage(self: AxpoTrainer, batch: Any, metrics: Any) -> Any:
        rewards = torch.tensor([*(record.reward for record in records), 0.0]).unsqueeze(-1)
        uids = np.array([*(record.uid for record in records), "pad"], dtype=object)
        compute_axpo_advantage(rewards, torch.ones_like(rewards), uids, self.config.algorithm)
        return batch

    monkeypatch.setattr(PPOTrainerSync, "_compute_advantage", compute_advantage)
    monkeypatch.setattr(PPOTrainerSync, "_update_actor", lambda self, batch, metrics: batch)
    monkeypatch.setattr(PPOTrainerSync, "_compute_metrics", lambda self, batch, metrics: None)
    told = StepSummary.from_json(orjson.dumps(real.summary))
    ranked = {uid: tuple(candidate for candidate in told.candidates if candidate.uid == uid) for uid in told.questions}
    selected = {uid: tuple(candidate for candidate in told.selected if candidate.uid == uid) for uid in told.questions}
    coordinator = SimpleNamespace(
        decisions=SimpleNamespace(remote=lambda _: Decisions(ranked=ranked, selected=selected))
    )

    trainer = make_trainer()
    trainer.config = OmegaConf.merge(trainer.config, {"algorithm": {"axpo": real.summary["config"]}})
    trainer.config.actor_rollout_ref.actor.loss_agg_mode = "seq-mean-token-mean"
    trainer.axpo, trainer.questions, trainer.failed_sessions = told.config, list(told.questions), 0
    trainer.expected = len(told.questions) * told.rollouts_per_question
    trainer.agent_loop_manager = SimpleNamespace(coordinator=coordinator)
    trainer.actor_rollout_wg = None
    trainer.tokenizer = Tags(real.summary["tags"])
    trainer.processor = None
    metrics: dict[str, Any] = {}
    with TraceWriter(tmp_path / "trace") as trainer.trace:
        keys = [*(f"{record.uid}_{record.session}_0" for record in records), "pad_0_0"]
        tags = [*({} for _ in records), {"is_padding": True}]
        batch = KVBatchMeta(keys=keys, tags=tags, partition_id="train")
        trainer._compute_advantage(batch, metrics)
        if updates:
            trainer._update_actor(batch, metrics)
        trainer._compute_metrics(batch, metrics)

    again = Step.read(tmp_path / "trace", 1)
    assert [without_entropy(line) for line in again.lines] == [without_entropy(line) for line in real.lines]
    assert [line["entropy"] for line in again.lines] == [
        pytest.approx(line["entropy"]) if line["entropy"] is not None else None for line in real.lines
    ]
    for line, length in zip(again.lines, (len(line["response_ids"]) for line in real.lines), strict=True):
        trained = line["prefix_len"] if line["selected"] else length
        measured = [at for at, value in enumerate(line["entropies"]) if value is not None]
        assert measured == [at for at in range(trained) if line["logprobs"][at] is not None]
    del real.summary["metrics"]["axpo/prefix_cache_hit_rate"]  # the engine's count is in no trace
    assert {name: metrics[name] for name in real.summary["metrics"]} == real.summary["metrics"]
    later = (
        "config",
        "metrics",
        "starts_in_think",
    )  # fields, settings and metrics that the traced run did not have yet
    assert again.summary["metrics"] == {name: value for name, value in metrics.items() if name.startswith("axpo/")}
    assert StepSummary.from_json(orjson.dumps(again.summary)).config == told.config
    assert {name: value for name, value in again.summary.items() if name not in later} == {
        name: value for name, value in real.summary.items() if name not in later
    }


class Tags:
    """A tokenizer that knows its tags, and a template that opens thinking."""

    def __init__(self, ids: dict[str, int]) -> None:
        self.convert_tokens_to_ids = ids.get

    def apply_chat_template(self, *_: Any, **__: Any) -> str:
        return "<think>\n"


def without_entropy(line: Line) -> Line:
    return {key: value for key, value in line.items() if key not in ("entropy", "entropies")}
