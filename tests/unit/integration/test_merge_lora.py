"""A checkpoint of an adapter becomes one model that computes what base and adapter computed."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from verl_axpo.integration.merge_lora import META, merge

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def saved(folder: Path) -> torch.nn.Module:
    """A checkpoint as verl's FSDP manager writes it on one rank; returns the model that it is of."""
    torch.manual_seed(0)
    base = (
        LlamaForCausalLM(LlamaConfig(vocab_size=64, num_key_value_heads=2, architectures=["LlamaForCausalLM"], **SHAPE))
        .bfloat16()
        .float()
    )
    adapted = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    folder.mkdir()
    torch.save(adapted.state_dict(), folder / "model_world_size_1_rank_0.pt")
    (folder / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": 1}))
    (folder / META).write_text(json.dumps({"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM"}))
    base.config.save_pretrained(folder / "huggingface")
    words = Tokenizer(models.WordLevel({f"w{number}": number for number in range(64)}, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w1").save_pretrained(folder / "huggingface")
    return adapted


def test_the_merged_model_computes_what_base_and_adapter_computed(tmp_path: Path) -> None:
    adapted, ids = saved(tmp_path / "actor"), torch.arange(12)[None]
    merged = AutoModelForCausalLM.from_pretrained(merge(tmp_path / "actor"), dtype=torch.float32)
    with torch.no_grad():
        expected, found = adapted(input_ids=ids).logits, merged(input_ids=ids).logits
        with adapted.disable_adapter():  # type: ignore[operator]
            untrained = adapted(input_ids=ids).logits
    scale = expected.abs().max()
    assert (found - expected).abs().max() < 0.03 * scale  # bfloat16
    assert (untrained - expected).abs().max() > 0.3 * scale
    assert not [path for path in (tmp_path / "actor").iterdir() if path.name.startswith("tmp")]


def test_what_verl_saved_of_base_and_adapter_mixed_is_replaced(tmp_path: Path) -> None:
    adapted = saved(tmp_path / "actor")
    save_file(adapted.state_dict(), tmp_path / "actor/huggingface/model.safetensors")
    merged = load_file(merge(tmp_path / "actor") / "model.safetensors")
    assert not [name for name in merged if "lora_" in name]


def test_a_merged_model_is_kept(tmp_path: Path) -> None:
    saved(tmp_path / "actor")
    weights = merge(tmp_path / "actor") / "model.safetensors"
    before = weights.stat().st_mtime_ns
    (tmp_path / "actor/model_world_size_1_rank_0.pt").unlink()  # nothing is read again
    merge(tmp_path / "actor")
    assert weights.stat().st_mtime_ns == before


def test_another_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give the folder of one of verl's checkpoints of a LoRA training"):
        merge(tmp_path)
