"""Invariant 1 on the real stack: with `budget=0`, on the same rollouts, a step is GRPO's bit for bit.

verl can dump a step's rollouts and train on the dump (`skip.rollout_tq`). One run makes the dump; then verl's own GRPO
and AXPO with a budget of zero each take one optimizer step on it. (The dumping run's own step is not the same to
the bit: it did not read its rows back from the dump.) All with `--config-name axpo_trainer`, the paper's whole setting,
from a folder that is not the checkout.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.e2e.conftest import TINY_SIZES, FastRun, MainPpo, trained_weights

PAPER = ["--config-name", "axpo_trainer", *TINY_SIZES, "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=64"]


def test_budget_zero_is_grpo_bit_for_bit(fast_run: FastRun, main_ppo: MainPpo, tmp_path: Path) -> None:
    dump = ["skip.rollout_tq.enable=true", f"skip.rollout_tq.dump_dir={tmp_path}/dump", "skip.rollout_tq.steps=[1]"]
    budget = "algorithm.axpo.budget=0"
    main_ppo("dump", *PAPER, *dump, budget)
    axpo = main_ppo("axpo", *PAPER, *dump, budget)
    grpo = main_ppo("grpo", *PAPER, *dump, "algorithm.adv_estimator=grpo", "trainer.v1.trainer_mode=sync")
    assert "Injected" in (axpo / "run.log").read_text()
    assert "Injected" in (grpo / "run.log").read_text()
    before = load_file(fast_run.model / "model.safetensors")
    ours, theirs = trained_weights(axpo), trained_weights(grpo)
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not different
    # A step that moved nothing would be equal to anything
    assert any(not torch.equal(before[name].float(), ours[name]) for name in ours if name in before)
