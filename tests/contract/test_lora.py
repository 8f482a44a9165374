"""What LoRA relies on in verl, vLLM and PEFT: if one of these changes, its test fails."""

import inspect
from dataclasses import fields
from typing import get_args

import pytest
from hydra import compose, initialize_config_module
from peft import LoraConfig, PeftModel
from verl.checkpoint_engine.base import CheckpointEngine
from verl.model_merger.base_model_merger import BaseModelMerger, ModelMergerConfig
from verl.model_merger.fsdp_model_merger import FSDPModelMerger
from verl.trainer.ppo.v1 import PPOTrainer
from verl.utils.checkpoint.fsdp_checkpoint_manager import FSDPCheckpointManager
from verl.workers.engine.fsdp.transformer_impl import FSDPEngine
from verl.workers.engine_workers import ActorRolloutRefWorker, TrainingWorker
from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

from verl_axpo.integration.merge_lora import META


def source(thing: object) -> str:
    return inspect.getsource(inspect.unwrap(thing))  # type: ignore[arg-type]


@pytest.mark.parametrize(("script", "config"), [("ppo_trainer", "lora"), ("sft_trainer_engine", "lora_sft")])
def test_our_groups_set_keys_that_verl_has(script: str, config: str) -> None:
    with initialize_config_module("verl.trainer.config", version_base=None):
        composed = compose(script, overrides=[f"+adapter={config}"])  # an unknown key would be refused here
    model = composed.model if config == "lora_sft" else composed.actor_rollout_ref.model
    assert (model.lora_rank, model.lora_alpha, model.target_modules) == (32, 32, "all-linear")


def test_the_reference_is_the_policy_without_its_adapters() -> None:
    assert "self.ref_in_actor = lora_rank > 0" in source(PPOTrainer._setup)
    assert 'metadata["no_lora_adapter"] = True' in source(PPOTrainer._compute_ref_log_prob)
    assert "self.engine.disable_adapter() if no_lora_adapter" in source(TrainingWorker.infer_batch)
    assert "self.module.disable_adapter()" in source(FSDPEngine.disable_adapter)


def test_adapters_travel_to_vllm_and_its_caches_are_emptied() -> None:
    update = source(ActorRolloutRefWorker.update_weights)
    assert "layered_summon=self.layered_summon, base_sync_done=True" in update
    assert "clear_kv_cache" in source(ServerAdapter.update_weights)  # all adapters have one id, which keys the cache


def test_a_checkpoint_engine_sends_the_base_alone() -> None:
    """Why `separate_async` is refused without `lora.merge` (integration/conflicts.py)."""
    assert "per_tensor_param, _ = self.actor.engine.get_per_tensor_param()" in source(
        ActorRolloutRefWorker.update_weights
    )
    assert "peft_config" not in inspect.signature(CheckpointEngine.send_weights).parameters


def test_vllm_applies_adapters_without_an_accelerator() -> None:
    from vllm.config.lora import MaxLoRARanks
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

    assert 32 in get_args(MaxLoRARanks)
    assert hasattr(PunicaWrapperCPU, "add_lora_linear")


def test_verls_merger_takes_base_and_adapter_apart() -> None:
    names = {field.name for field in fields(ModelMergerConfig)}
    assert {"operation", "backend", "local_dir", "hf_model_config_path", "target_dir"} <= names
    assert hasattr(FSDPModelMerger, "merge_and_save")
    assert '"lora_adapter"' in source(BaseModelMerger.save_lora_adapter)
    assert META in source(FSDPCheckpointManager._save_lora_train_meta)
    assert META in source(BaseModelMerger._load_lora_train_meta)
    # verl's own Hugging Face save does not merge; when it does, this fails and ours can go
    assert "merge" not in source(FSDPCheckpointManager.save_checkpoint)


def test_peft_leaves_modules_out_and_merges() -> None:
    assert "exclude_modules" in {field.name for field in fields(LoraConfig)}
    assert hasattr(PeftModel, "from_pretrained")
