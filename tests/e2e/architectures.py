"""The tiny world's model in other architectures: `python architectures.py NAME WORLD` puts one in place of WORLD/model.

Tokenizer, chat template and image sizes stay the tiny world's; only the network differs.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
    Qwen3VLVideoProcessor,
)

from examples.tiny_world.model import MAX_LENGTH, MERGE, TEXT, VISION, processor

PATCH_PX = 14  # of Qwen2.5-VL: one image token covers 28 x 28 pixels
# norm_topk_prob: as in the published configs; transformers normalizes whatever it says, and vLLM asks for it
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 192, "norm_topk_prob": True}
Made = tuple[Any, Any]  # model, processor


def ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """The token ids that a config of this kind names."""
    places = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    return {f"{key}_token_id": tokenizer.convert_tokens_to_ids(f"<|{name}|>") for key, name in places.items()}


def text_of(tokenizer: PreTrainedTokenizerFast, **changes: Any) -> dict[str, Any]:
    """The tiny language model with some of its sizes changed."""
    ends = {f"{end}_token_id": tokenizer.eos_token_id for end in ("bos", "eos")} | {
        "pad_token_id": tokenizer.pad_token_id
    }
    return {**TEXT, "vocab_size": len(tokenizer), "max_position_embeddings": MAX_LENGTH, **ends, **changes}


def qwen3_vl_moe(tokenizer: PreTrainedTokenizerFast) -> Made:
    """Four experts in every layer, two of them for a token."""
    vision = {**VISION, "out_hidden_size": TEXT["hidden_size"]}
    config = Qwen3VLMoeConfig(
        text_config=text_of(tokenizer, **EXPERTS), vision_config=vision, tie_word_embeddings=True, **ids(tokenizer)
    )
    return Qwen3VLMoeForConditionalGeneration(config), processor(tokenizer)


def qwen2_5_vl(tokenizer: PreTrainedTokenizerFast) -> Made:
    """Window attention in the image encoder, patches of 14 pixels, M-RoPE in sections that are not interleaved."""
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]}
    vision = {
        **{"depth": 2, "hidden_size": 64, "intermediate_size": 192, "num_heads": 4, "patch_size": PATCH_PX},
        **{"out_hidden_size": TEXT["hidden_size"], "fullatt_block_indexes": [1], "window_size": 4 * 2 * PATCH_PX},
    }
    config = Qwen2_5_VLConfig(
        text_config=text_of(tokenizer, rope_parameters=rope),
        vision_config=vision,
        tie_word_embeddings=True,
        **ids(tokenizer),
    )
    shape = {"patch_size": PATCH_PX, "merge_size": MERGE, "temporal_patch_size": 2}
    sizes = {"shortest_edge": (4 * PATCH_PX) ** 2, "longest_edge": (8 * PATCH_PX) ** 2}
    made = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**shape, size=sizes),
        video_processor=Qwen3VLVideoProcessor(**shape, size=sizes),
        tokenizer=tokenizer,
        chat_template=tokenizer.chat_template,
    )
    return Qwen2_5_VLForConditionalGeneration(config), made


def qwen3_5(tokenizer: PreTrainedTokenizerFast) -> Made:
    """Three layers of linear attention and one of the usual, which rotates a quarter of each head, 16 of 64 numbers."""
    rope = {**TEXT["rope_parameters"], "partial_rotary_factor": 0.25, "mrope_section": [3, 3, 2]}  # type: ignore[dict-item]
    heads = {"linear_num_key_heads": 4, "linear_num_value_heads": 4}
    sizes = {"linear_key_head_dim": 32, "linear_value_head_dim": 32, "head_dim": 64}  # vLLM's kernels: 32 and more
    state = {"mamba_ssm_dtype": "float32"}  # as in the published configs; vLLM's kernel takes no other
    text = text_of(tokenizer, rope_parameters=rope, **heads, **sizes, **state)
    vision = {**VISION, "out_hidden_size": TEXT["hidden_size"]}
    del vision["deepstack_visual_indexes"]
    config = Qwen3_5Config(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids(tokenizer))
    return Qwen3_5ForConditionalGeneration(config), processor(tokenizer)


ARCHITECTURES: dict[str, Callable[[PreTrainedTokenizerFast], Made]] = {
    "qwen3_vl_moe": qwen3_vl_moe,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_5": qwen3_5,
}


def replace(folder: Path, name: str) -> None:
    """Put the named architecture in place of the model in `folder`; its tokenizer stays."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = (folder / "chat_template.jinja").read_text()
    torch.manual_seed(0)
    model, made = ARCHITECTURES[name](tokenizer)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=True
    )
    for file in folder.iterdir():
        file.unlink()
    model.float().save_pretrained(folder)
    made.save_pretrained(folder)


if __name__ == "__main__":
    replace(Path(sys.argv[2]) / "model", sys.argv[1])
