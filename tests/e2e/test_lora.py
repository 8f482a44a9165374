"""LoRA on the real stack: SFT of adapters, merged; AXPO of adapters on top, merged; and a budget of zero is GRPO.

    bash tests/run.sh tests/e2e/test_lora.py     "all" leaves it out

The questions have no images, so that plain transformers can compute what the trainer computed.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText

from tests.e2e.conftest import REPO, SGD, TINY_SIZES, FastRun, MainPpo, run, text_only, trained_weights
from verl_axpo.trace import read_step

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
STEPS = 2
Batch = dict[str, Any]


@pytest.mark.slow
def test_adapters_from_sft_to_the_merged_policy(fast_run: FastRun, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log.txt"
    places = {"MODEL": "tiny", "SETUP": "0", "OUT": str(out), "WORLD": str(fast_run.world)}
    demonstrations = [f"model.path={fast_run.model}", f"data.train_files={fast_run.world}/sft_train.parquet"]
    run(["bash", f"{REPO}/recipes/sft.sh", "+adapter=lora_sft", *demonstrations, "optim.lr=0.01"], log,
        **places, STEPS="10")  # fmt: skip
    questions = text_only(fast_run.world / "train.parquet", tmp_path / "train.parquet")
    files = [f"data.train_files={questions}", f"data.val_files={fast_run.world}/heldout.parquet"]
    # A reward that no rollout reaches makes every subgroup all-wrong, so that there is something to resample; the rate
    # is so large that one step changes the policy beyond all rounding
    wrong = ["algorithm.axpo.correct_threshold=2", "trainer.val_before_train=false", "trainer.test_freq=-1"]
    settings = ["+adapter=lora", "actor_rollout_ref.actor.optim.lr=0.003", f"trainer.save_freq={STEPS}"]
    probe = {"PROBE": str(tmp_path / "probe"), "VERL_USE_EXTERNAL_MODULES": "logprob_probe"}
    probe["PYTHONPATH"] = str(Path(__file__).parent)  # `tests` is a package of verl's wheel
    run(["bash", f"{REPO}/recipes/rl.sh", *settings, *files, *wrong], log, **places, **probe, STEPS=str(STEPS))

    merged_sft, policy = out / "sft/checkpoint", out / "axpo/checkpoint"
    first, second = (torch.load(tmp_path / f"probe/step_{step}.pt", weights_only=False) for step in (1, STEPS))
    # The reference is the merged SFT model, before and after adapters were trained, and not what SFT began with
    for batch in (first, second):
        assert distance(batch["ref_log_prob"], recomputed(merged_sft, batch), batch) < 1e-3
    assert distance(second["ref_log_prob"], recomputed(fast_run.model, second), second) > 0.05
    # Untrained adapters change nothing; trained ones reach vLLM, which samples from the trainer's policy
    assert distance(first["old_log_probs"], first["ref_log_prob"], first) < 1e-6
    assert distance(second["rollout_log_probs"], second["old_log_probs"], second) < 1e-3
    assert distance(second["old_log_probs"], second["ref_log_prob"], second) > 0.05
    # Continuations are sampled with the adapter too, and share the tokens of their prefix
    records = read_step(out / "axpo/trace", STEPS).records
    sources = {(record.uid, record.session): record for record in records}
    continued = [
        (record, sources[record.uid, record.source_session]) for record in records if record.kind == "resample"
    ]
    assert continued
    for record, source in continued:
        assert record.prefix_len == source.prefix_len
        assert record.response_ids[: record.prefix_len] == source.response_ids[: source.prefix_len]
    # The merged policy is another model than the SFT model, and a whole one
    assert distance(recomputed(policy, second), recomputed(merged_sft, second), second) > 0.05


@pytest.mark.slow
def test_budget_zero_is_grpo_with_adapters(fast_run: FastRun, main_ppo: MainPpo, tmp_path: Path) -> None:
    """As test_identity.py, which says why step 2 is compared; both runs begin with the same adapters."""
    adapter = new_adapter(fast_run.model, tmp_path / "adapter")
    dump = ["skip.rollout_tq.enable=true", f"skip.rollout_tq.dump_dir={tmp_path}/dump", "skip.rollout_tq.steps=[1,2]"]
    both = [
        *("--config-name", "axpo_trainer", "+adapter=lora", *TINY_SIZES, *SGD),
        f"actor_rollout_ref.model.lora_adapter_path={adapter}",
        "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=64",
        *("actor_rollout_ref.actor.optim.lr_warmup_steps=1", *dump, "skip.rollout_tq.action=repeat"),
    ]
    axpo = main_ppo("axpo", *both, "algorithm.axpo.budget=0", steps=STEPS)
    grpo = main_ppo("grpo", *both, "algorithm.adv_estimator=grpo", "trainer.v1.trainer_mode=sync", steps=STEPS)
    ours, theirs = trained_weights(axpo, STEPS), trained_weights(grpo, STEPS)
    assert ours.keys() == theirs.keys()
    assert not [name for name in ours if not torch.equal(ours[name], theirs[name])]
    # A step that moved nothing would be equal to anything; the base stays as it is
    before = torch.load(adapter / "before.pt", weights_only=False)
    moved = {name for name in ours if not torch.equal(before[name].float(), ours[name])}
    assert moved
    assert all("lora_" in name for name in moved)


def new_adapter(model: Path, folder: Path) -> Path:
    """An adapter whose two halves are both random, so that both have a gradient; `before.pt` has the whole model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32)
        settings = LoraConfig(r=32, lora_alpha=32, target_modules=MODULES, task_type="CAUSAL_LM")
        adapted = get_peft_model(base, settings)
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.01)
    adapted.save_pretrained(folder)
    torch.save(adapted.state_dict(), folder / "before.pt")
    return folder


def recomputed(model: Path, batch: Batch) -> list[torch.Tensor]:
    """Log-probabilities of every row's response, (T,) each, from the model's files alone."""
    network = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32).eval()
    found = []
    for prompt, response in zip(batch["prompts"], batch["responses"], strict=True):
        prompt, response = prompt.reshape(-1), response.reshape(-1)
        with torch.no_grad():
            logits = network(input_ids=torch.cat([prompt, response])[None]).logits[0, len(prompt) - 1 : -1]
        found.append(logits.log_softmax(-1).gather(-1, response[:, None])[:, 0])
    return found


def distance(left: list[torch.Tensor], right: list[torch.Tensor], batch: Batch) -> float:
    """The largest difference of two log-probabilities of a trained token."""
    rows = zip(left, right, batch["response_mask"], strict=True)
    return max(float(((row - other).abs() * mask).max()) for row, other, mask in rows)
