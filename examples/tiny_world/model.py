"""A Qwen3-VL small enough for two CPU cores, as a checkpoint that transformers, verl and vLLM load by its name.

tokenizer -> processor()  -> what images and text become
          -> new_model()  -> Qwen3VLForConditionalGeneration, random weights
save() -> config.json, weights, tokenizer, processor, chat template in one folder
"""

from pathlib import Path

import torch
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

MAX_LENGTH = 1024  # tokens; the longest trajectory of three turns stays below 400
PATCH_PX, MERGE = 16, 2  # Qwen3-VL's: one image token covers 32 x 32 pixels
VIEW_PX = 128  # side of the largest view of an image: 16 tokens
MIN_VIEW_PX = 64  # side of the smallest: 4 tokens, which is also qwen_vl_utils' lower bound

TEXT = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 384,
    "tie_word_embeddings": True,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10_000.0,
        "mrope_section": [6, 5, 5],  # halves of head_dim / 2 for time, height and width, as Qwen3-VL's [24, 20, 20]
        "mrope_interleaved": True,
    },
}
VISION = {
    "depth": 2,
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_heads": 4,
    "patch_size": PATCH_PX,
    "spatial_merge_size": MERGE,
    "temporal_patch_size": 2,
    "num_position_embeddings": (VIEW_PX // PATCH_PX) ** 2,
    "deepstack_visual_indexes": [0],
}


def processor(tokenizer: PreTrainedTokenizerFast) -> Qwen3VLProcessor:
    """Image and text processor; every image becomes 4 to 16 tokens."""
    sizes = {"shortest_edge": MIN_VIEW_PX**2, "longest_edge": VIEW_PX**2}
    shape = {"patch_size": PATCH_PX, "merge_size": MERGE, "temporal_patch_size": 2, "size": sizes}
    half = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**shape, **half),
        video_processor=Qwen3VLVideoProcessor(**shape, **half),
        tokenizer=tokenizer,
        chat_template=tokenizer.chat_template,
    )


def config(tokenizer: PreTrainedTokenizerFast) -> Qwen3VLConfig:
    """The architecture, with the token ids of `tokenizer`."""
    token = tokenizer.convert_tokens_to_ids
    text = TEXT | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": MAX_LENGTH,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return Qwen3VLConfig(
        text_config=text,
        vision_config=VISION | {"out_hidden_size": TEXT["hidden_size"]},
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3VLForConditionalGeneration:
    """Random weights, the same for the same seed; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration(config(tokenizer)).float()
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=True
    )
    return model


def save(folder: Path, tokenizer: PreTrainedTokenizerFast, seed: int) -> int:
    """Write the whole checkpoint; returns the number of parameters."""
    folder.mkdir(parents=True, exist_ok=True)
    model = new_model(tokenizer, seed)
    model.save_pretrained(folder)
    processor(tokenizer).save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())
