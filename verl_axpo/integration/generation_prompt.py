"""What the chat template leaves open for the policy: template + its kwargs -> generation prompt -> is `<think>` open?

Qwen3-VL-Thinking's prompt opens `<think>`. With `enable_thinking=False` a template closes it at once: then a response
starts outside thinking, where a `<tool_call>` is a call.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from verl_axpo.tools.parser import opened_think


def starts_in_think(renderer: Any, template_kwargs: Mapping[str, Any] | None = None) -> bool:
    """Whether a response starts inside thinking.

    Args:
        renderer: tokenizer, or the processor of a model with images, whose template may differ from the tokenizer's.
        template_kwargs: `data.apply_chat_template_kwargs`, with which verl renders every prompt.
    """
    plain = OmegaConf.to_container(template_kwargs) if isinstance(template_kwargs, DictConfig) else template_kwargs
    return _starts_in_think(renderer, json.dumps(plain or {}, sort_keys=True))


@lru_cache(maxsize=8)  # a worker asks for every trajectory
def _starts_in_think(renderer: Any, template_kwargs: str) -> bool:
    question = [{"type": "text", "text": "?"}] if hasattr(renderer, "tokenizer") else "?"
    prompt = renderer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        tokenize=False,
        **json.loads(template_kwargs),
    )
    return bool(opened_think(prompt))
