"""Adapters that verl trained, merged into their model: `python -m verl_axpo.integration.merge_lora FOLDER`.

FOLDER (verl's checkpoint of an adapter) -> verl's merger: base and adapter apart -> PEFT merges -> FOLDER/huggingface

verl saves base and adapter in one file, and its merger takes them apart again; what RL starts from and vLLM serves is
one model. The recipes call this for a checkpoint with `lora_train_meta.json`, which verl writes for adapters only.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from verl.model_merger.base_model_merger import ModelMergerConfig
from verl.model_merger.fsdp_model_merger import FSDPModelMerger

META = "lora_train_meta.json"
WEIGHTS = "model*.safetensors*"  # of a Hugging Face model, its index included
DONE = "lora_merged"  # written last


def merge(checkpoint: Path) -> Path:
    """The merged model of an FSDP checkpoint, in bfloat16 as verl's merger writes models; done once.

    Args:
        checkpoint: with verl's shards and `huggingface/`, which has configuration and tokenizer already.

    Returns:
        `huggingface/` in the checkpoint, now with the weights.

    Raises:
        ValueError: the checkpoint is not of an adapter.
    """
    if not (checkpoint / META).is_file():
        raise ValueError(f"{checkpoint} has no {META}; give the folder of one of verl's checkpoints of a LoRA training")
    model = checkpoint / "huggingface"
    if (checkpoint / DONE).exists():
        return model
    with TemporaryDirectory(dir=checkpoint) as apart:
        _take_apart(checkpoint, model, apart)
        auto = _auto_class(model)
        base = auto.from_pretrained(apart, dtype=torch.float32)
        merged = PeftModel.from_pretrained(base, f"{apart}/lora_adapter").merge_and_unload()
        merged.to(torch.bfloat16).save_pretrained(f"{apart}/merged")
        for mixed in model.glob(WEIGHTS):  # verl's, if `save_contents` has hf_model
            mixed.unlink()
        for weights in Path(apart, "merged").glob(WEIGHTS):
            weights.replace(model / weights.name)
    (checkpoint / DONE).touch()
    return model


def _take_apart(checkpoint: Path, model: Path, target: str) -> None:
    """verl's merger: the base model into `target`, the adapter into `target`/lora_adapter."""
    config = ModelMergerConfig(
        operation="merge",
        backend="fsdp",
        local_dir=str(checkpoint),
        hf_model_config_path=str(model),
        target_dir=target,
    )
    FSDPModelMerger(config).merge_and_save()


def _auto_class(model: Path) -> type[AutoModelForCausalLM] | type[AutoModelForImageTextToText]:
    architecture = AutoConfig.from_pretrained(model).architectures[0]
    return AutoModelForImageTextToText if "ForConditionalGeneration" in architecture else AutoModelForCausalLM


if __name__ == "__main__":
    print(merge(Path(sys.argv[1])))
