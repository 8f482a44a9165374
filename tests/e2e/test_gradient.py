"""Invariant 5 on the real stack, through the one switch: a plain GRPO command plus `algorithm.adv_estimator=axpo`.

verl takes one SGD step of size 1, so that the change of the weights is the gradient. The test computes the gradient of
equation 5 from the trace with plain transformers (`equation5.py`) and compares the two.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.conftest import PLAIN_GRPO, SGD, FastRun, MainPpo, trained_weights
from tests.e2e.equation5 import Policy, Row, grpo_tokens, is_extra, key_of, relative_error, rows_of
from verl_axpo.audit import audit

# No batch is in flight before the first step, so that it trains all groups that it submits, the resampled ones included
ASYNCHRONOUS = {
    "colocate_async": ["trainer.v1.trainer_mode=colocate_async", "trainer.v1.colocate_async.num_warmup_batches=0"],
    "separate_async": [
        "trainer.v1.trainer_mode=separate_async",
        "trainer.v1.separate_async.num_warmup_batches=0",
        "trainer.v1.separate_async.parameter_sync_step=1",
        "actor_rollout_ref.rollout.nnodes=1",
        "actor_rollout_ref.rollout.n_gpus_per_node=1",
        "ray_kwargs.ray_init.num_gpus=2",
    ],
}
TEMPERATURE, LOWEST, HIGHEST = 0.7, 0.9, 1.05  # of rejection: see the test
REJECTION = [
    f"actor_rollout_ref.rollout.temperature={TEMPERATURE}",
    "actor_rollout_ref.rollout.logprobs_mode=raw_logprobs",
    "algorithm.rollout_correction.rollout_rs=token_k1",
    f"algorithm.rollout_correction.rollout_rs_threshold={LOWEST}_{HIGHEST}",
]
DYNAMIC = [  # micro-batches are cut by tokens
    "actor_rollout_ref.actor.use_dynamic_bsz=true",
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=4096",
    "actor_rollout_ref.rollout.log_prob_use_dynamic_bsz=true",
    "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu=4096",
]
# and their rows are one sequence, whose parts PyTorch's attention tells by their positions
BATCHES = {"dynamic": DYNAMIC, "packed": [*DYNAMIC, "actor_rollout_ref.model.use_remove_padding=true"]}


def measured_step(fast_run: FastRun, folder: Path) -> dict[str, torch.Tensor]:
    before, after = load_file(fast_run.model / "model.safetensors"), trained_weights(folder)
    return {name: before[name].float() - after[name] for name in after if name in before}


@pytest.mark.parametrize("mode", ["sync", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ASYNCHRONOUS)])
def test_the_gradient_is_that_of_equation_5(fast_run: FastRun, main_ppo: MainPpo, tmp_path: Path, mode: str) -> None:
    ours = [f"+algorithm.axpo.trace_dir={tmp_path}/switch/trace", "+algorithm.axpo.uncertainty=entropy"]
    folder = main_ppo("switch", *PLAIN_GRPO, *SGD, *ours, *ASYNCHRONOUS.get(mode, ()))
    log = (folder / "run.log").read_text()
    assert f"axpo: set trainer.v1.trainer_mode=axpo_{mode}" in log
    rows = rows_of(folder / "trace")
    extra = [row for row in rows if is_extra(row)]
    assert extra, "no prefix was resampled, so that this test would only be about GRPO"
    assert all(row["entropy"] is not None for row in extra if row["selected"])  # they were ranked by it
    assert audit(folder / "trace").differences == ()

    stepped, policy = measured_step(fast_run, folder), Policy(fast_run.model, folder / "trace")
    old = policy.old_logprobs(rows)
    ordinary = policy.gradient([row for row in rows if row not in extra], old, grpo_tokens(rows))
    expected = policy.gradient(rows, old, grpo_tokens(rows))
    assert relative_error(stepped, expected) < 1e-4
    # The test can fail: without AXPO's rows, or with these rows averaged in, the gradient is another
    assert relative_error(stepped, ordinary) > 0.05
    trained = sum(sum(row["response_mask"]) for row in rows)
    averaged_in = {name: value * grpo_tokens(rows) / trained for name, value in expected.items()}
    assert relative_error(stepped, averaged_in) > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("batches", BATCHES)
def test_other_batches_and_rejected_tokens_keep_the_weights(
    fast_run: FastRun, main_ppo: MainPpo, tmp_path: Path, batches: str
) -> None:
    """verl's `rollout_correction` takes tokens out of the loss, and GRPO goes on dividing by all of them. On the CPU
    trainer and engine agree, so that nothing would be rejected; here the engine's log-probs are those before the
    temperature is applied."""
    trace = tmp_path / "run/trace"
    folder = main_ppo("run", *PLAIN_GRPO, *SGD, *REJECTION, *BATCHES[batches], f"+algorithm.axpo.trace_dir={trace}")
    rows = rows_of(trace)
    assert any(map(is_extra, rows))
    assert audit(trace).differences == ()

    stepped, policy = measured_step(fast_run, folder), Policy(fast_run.model, trace, TEMPERATURE)
    old = policy.old_logprobs(rows)
    kept = {key_of(row): not_rejected(row, old[key_of(row)]) for row in rows if key_of(row) in old}
    for kind in (True, False):
        of_kind = [
            on_trained_tokens(kept[key_of(row)], row) for row in rows if key_of(row) in kept and is_extra(row) is kind
        ]
        assert 0.05 < 1 - torch.cat(of_kind).mean() < 0.95, "too few tokens of a kind were rejected, or kept, to tell"
    expected = policy.gradient(rows, old, grpo_tokens(rows), kept)
    assert relative_error(stepped, expected) < 1e-4
    assert (
        relative_error(stepped, policy.gradient(rows, old, grpo_tokens(rows))) > 0.05
    )  # the gradient if no token were rejected


def on_trained_tokens(values: torch.Tensor, row: Row) -> torch.Tensor:
    """Of (T,) values those of the tokens that are trained."""
    return values[torch.tensor(row["response_mask"][: len(values)]).bool()]


def not_rejected(row: Row, trainers: torch.Tensor) -> torch.Tensor:
    """(T,) 1 where the engine's probability is between `LOWEST` and `HIGHEST` times the trainer's, and on all tokens
    that are not the policy's."""
    engines = torch.tensor([0.0 if logprob is None else logprob for logprob in row["logprobs"][: len(trainers)]])
    ratio = (engines - trainers).exp()
    of_policy = torch.tensor([logprob is not None for logprob in row["logprobs"][: len(trainers)]])
    return (~of_policy | ((ratio >= LOWEST) & (ratio <= HIGHEST))).float()


@pytest.mark.parametrize("scale", [1.0, 1.01])
def test_the_relative_error_is_relative(scale: float) -> None:
    value = {"w": torch.tensor([3.0, 4.0])}
    assert relative_error({"w": value["w"] * scale}, value) == pytest.approx(scale - 1.0, abs=1e-6)
