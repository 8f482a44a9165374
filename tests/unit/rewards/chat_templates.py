"""Chat templates as their models ship them, and a tokenizer that reads their control marks as special tokens.

    family -> template() -> rendered() -> text -> control_tokens() -> how many special tokens a server would see

The originals come with TRL's wheel, which is read and not imported; it has none of Mistral's.
"""

import re
import sys
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer, models
from transformers.utils.chat_template_utils import render_jinja_template

FAMILIES = (
    "qwen2_5", "qwen3_vl", "qwen3_5_think", "llama3", "llama3_2", "gemma3", "gemma4_v5", "glm4moe", "deepseekv3",
    "gptoss", "phi3", "cohere2", "nemotron_3_nano", "mistral",
)  # fmt: skip
_MISTRAL = """\
{{ bos_token }}{% for message in messages %}{% if message.role == 'system' %}[SYSTEM_PROMPT]{{ message.content }}\
[/SYSTEM_PROMPT]{% elif message.role == 'user' %}[INST]{{ message.content }}[/INST]{% else %}{{ message.content }}\
{{ eos_token }}{% endif %}{% endfor %}"""
_MARK = re.compile(r"<[^\s<>'\"{}%]+>|\[/?g?[A-Z_]+\]")
# Those of further models, and of the processors that put images in
OTHER_MARKS = (
    "<s>", "</s>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|python_tag|>", "<|begin_of_text|>", "<bos>", "<eos>",
    "<turn|>", "<|tool_call>", "<tool_call|>", "<end_of_turn>", "<start_of_image>", "<|image_pad|>", "<|vision_start|>",
    "<image>", "<video>", "<IMG_CONTEXT>", "[IMG]", "[IMG_END]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]",
    "[AVAILABLE_TOOLS]", "[gMASK]", "<sop>", "<|observation|>", "<|im_sep|>", "<\uff5cUser\uff5c>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>", "<seed:bos>", "<|header_start|>", "]~b]", "]~!b[", "[e~[",
    "]<]minimax[>[",
)  # fmt: skip
Message = dict[str, str]
TEMPLATES = Path(sys.prefix) / "templates/trl/chat_templates"  # by recipes/setup_env.sh


@lru_cache
def template(family: str) -> str:
    """The family's template, in Jinja."""
    if family == "mistral":
        return _MISTRAL
    return (TEMPLATES / f"{family}.jinja").read_text()


def rendered(family: str, messages: list[Message]) -> str:
    """What a server tokenizes, the generation prompt included."""
    chats, _ = render_jinja_template(
        [messages], chat_template=template(family), add_generation_prompt=True, bos_token="<s>", eos_token="</s>"
    )
    return str(chats[0])


@lru_cache
def marks(family: str) -> tuple[str, ...]:
    """Every control mark that the template writes or looks for."""
    return tuple(sorted(set(_MARK.findall(template(family)))))


@lru_cache
def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.add_special_tokens([*OTHER_MARKS, *(mark for family in FAMILIES for mark in marks(family))])
    return tokenizer


def control_tokens(text: str) -> int:
    """How many of the text's tokens are special in any of the families."""
    return sum(number != 0 for number in _tokenizer().encode(text, add_special_tokens=False).ids)
