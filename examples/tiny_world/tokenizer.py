"""A small byte-level BPE tokenizer with Qwen's special tokens, trained on the world's own text.

    rendered conversations -> split at special tokens -> chunks (numbers, everything between) -> BPE

A chunk may span lines, so text that never changes (system prompt, schema) becomes one or two tokens: two cores then
spend their time on pictures and decisions. Numbers are chunks of their own, hence one token per coordinate.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CHAT_TEMPLATES = {  # by call syntax: with the rules of Qwen3-VL-Thinking's, and of Qwen3.5's
    "hermes": Path(__file__).with_name("chat_template.jinja"),
    "qwen3_coder": Path(__file__).with_name("chat_template_qwen3_coder.jinja"),
}
MAX_VOCABULARY = 8192  # bound; the text of three families needs about half
PAD, END_OF_TURN = "<|endoftext|>", "<|im_end|>"
CONTROL_TOKENS = (
    PAD,
    "<|im_start|>",
    END_OF_TURN,
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# Single tokens, yet text: `skip_special_tokens` keeps them, as in Qwen3.
TAG_TOKENS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")

# A number inside a list, a sentence or an address. Those in names (bbox_2d, x1) belong to their words.
_NUMBER = r"(?<=[ \[/])\d{1,4}(?=[,.\]/])"
# A newline right after a special token stands alone: the generation prompt ends there, so it must not merge with what
# the policy writes next.
_CHUNK = rf"\A\n|{_NUMBER}|(?:(?!{_NUMBER})[\s\S])+"
_SPECIAL = re.compile("|".join(re.escape(token) for token in CONTROL_TOKENS + TAG_TOKENS))


def _plain_pieces(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from _SPECIAL.split(text)


def train(texts: Iterable[str], max_length: int, call_syntax: str = "hermes") -> PreTrainedTokenizerFast:
    """Train on rendered conversations and attach the chat template.

    Args:
        texts: conversations as `render` gives them.
        max_length: longest sequence in tokens that the model takes.
        call_syntax: of the chat template.
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CHUNK), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=MAX_VOCABULARY,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(_plain_pieces(texts), trainer)
    backend.add_special_tokens(list(CONTROL_TOKENS))
    backend.add_tokens(list(TAG_TOKENS))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=END_OF_TURN,
        pad_token=PAD,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATES[call_syntax].read_text(encoding="utf-8"),
    )
