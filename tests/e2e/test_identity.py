"""Invariant 1 on the real stack: with `budget=0`, on the same rollouts, a step is GRPO's bit for bit.

verl can dump a step's rollouts and train on the dump again (`skip.rollout_tq`, `action=repeat`). A run of AXPO with a
budget of zero samples and dumps in step 1 and reads the dump back in step 2. A run of verl's own GRPO reads the dump in
both steps. The learning rate is 0 in step 1 (a warm-up of one step) and SGD keeps no state, so step 2 of both runs
starts from the SFT checkpoint and is the one to compare. (Step 1 of the dumping run is not the same to the bit: it did
not read its rows from the dump.) All but the optimizer is `--config-name axpo_trainer`, the paper's whole setting.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.conftest import SGD, TINY_SIZES, TWO_OF_EACH, FastRun, MainPpo, trained_weights

PAPER = ["--config-name", "axpo_trainer", *TINY_SIZES, "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=64"]
STEPS = 2
MODE = "trainer.v1.trainer_mode"
# verl's trainer -> further settings of both runs
STACKS = {
    "sync": (f"{MODE}=sync",),
    "two of each": (f"{MODE}=sync", *TWO_OF_EACH),
    "colocate_async": (f"{MODE}=colocate_async",),
    "separate_async": (
        f"{MODE}=separate_async",
        "trainer.v1.separate_async.parameter_sync_step=1",
        "actor_rollout_ref.rollout.nnodes=1",
        "actor_rollout_ref.rollout.n_gpus_per_node=1",
        "ray_kwargs.ray_init.num_gpus=2",
    ),
}
SLOW = pytest.mark.slow


@pytest.mark.parametrize("stack", ["sync", *(pytest.param(stack, marks=SLOW) for stack in STACKS if stack != "sync")])
def test_budget_zero_is_grpo_bit_for_bit(fast_run: FastRun, main_ppo: MainPpo, tmp_path: Path, stack: str) -> None:
    dump = ["skip.rollout_tq.enable=true", f"skip.rollout_tq.dump_dir={tmp_path}/dump", "skip.rollout_tq.steps=[1,2]"]
    both = [*PAPER, *SGD, "actor_rollout_ref.actor.optim.lr_warmup_steps=1", *dump, "skip.rollout_tq.action=repeat"]
    both += STACKS[stack]
    axpo = main_ppo("axpo", *both, "algorithm.axpo.budget=0", steps=STEPS)
    grpo = main_ppo("grpo", *both, "algorithm.adv_estimator=grpo", steps=STEPS)
    assert "axpo: set trainer.v1.trainer_mode=axpo_" in (axpo / "run.log").read_text()
    assert (axpo / "run.log").read_text().count("Injected") == 1
    assert (grpo / "run.log").read_text().count("Injected") == STEPS
    before = load_file(fast_run.model / "model.safetensors")
    ours, theirs = trained_weights(axpo, STEPS), trained_weights(grpo, STEPS)
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not different
    # Otherwise two steps that change nothing would pass
    assert any(not torch.equal(before[name].float(), ours[name]) for name in ours if name in before)
