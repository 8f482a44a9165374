"""Invariant 1 on the real stack: with `budget=0`, on the same rollouts, a step is GRPO's bit for bit.

verl can dump a step's rollouts and train on the dump again (`skip.rollout_tq`, `action=repeat`). A run of AXPO with a
budget of zero samples and dumps in step 1 and reads the dump back in step 2. A run of verl's own GRPO reads the dump in
both steps. The learning rate is 0 in step 1 (a warm-up of one step) and SGD keeps no state, so step 2 of both runs
starts from the SFT checkpoint and is the one to compare. (Step 1 of the dumping run is not the same to the bit: it did
not read its rows from the dump.) All but the optimizer is `--config-name axpo_trainer`, the paper's whole setting.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.e2e.conftest import SGD, TINY_SIZES, FastRun, MainPpo, trained_weights

PAPER = ["--config-name", "axpo_trainer", *TINY_SIZES, "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=64"]
STEPS = 2


def test_budget_zero_is_grpo_bit_for_bit(fast_run: FastRun, main_ppo: MainPpo, tmp_path: Path) -> None:
    dump = ["skip.rollout_tq.enable=true", f"skip.rollout_tq.dump_dir={tmp_path}/dump", "skip.rollout_tq.steps=[1,2]"]
    both = [*PAPER, *SGD, "actor_rollout_ref.actor.optim.lr_warmup_steps=1", *dump, "skip.rollout_tq.action=repeat"]
    budget = "algorithm.axpo.budget=0"
    axpo = main_ppo("axpo", *both, budget, steps=STEPS)
    grpo = main_ppo("grpo", *both, "algorithm.adv_estimator=grpo", "trainer.v1.trainer_mode=sync", steps=STEPS)
    assert (axpo / "run.log").read_text().count("Injected") == 1
    assert (grpo / "run.log").read_text().count("Injected") == STEPS
    before = load_file(fast_run.model / "model.safetensors")
    ours, theirs = trained_weights(axpo, STEPS), trained_weights(grpo, STEPS)
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not different
    # A step that moved nothing would be equal to anything
    assert any(not torch.equal(before[name].float(), ours[name]) for name in ours if name in before)
