"""The trainer's parts that need no cluster: what a row is, how many updates, and what its metrics are about."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import PPOTrainerSync

from verl_axpo.core.config import AxpoConfig
from verl_axpo.integration.step_report import length_metrics
from verl_axpo.integration.trainer import AxpoTrainer
from verl_axpo.trace import StepSummary, TraceWriter


def make_trainer(*, dynamic: bool = False, extra: bool = True, mini: int = 16) -> AxpoTrainer:
    trainer = AxpoTrainer.__new__(AxpoTrainer)
    trainer.use_critic, trainer.global_steps, trainer.has_extra_rows, trainer.num_rollouts = False, 1, extra, 8
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
