"""Tags that a tokenizer splits become tokens of their own, and the model's other words stay as they are."""

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from verl_axpo.tools.added_tags import add_tags
from verl_axpo.tools.parser import ToolCallParser

CALL = 'so\n<tool_call>\n{"name": "python", "arguments": {}}\n</tool_call>'


def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, and a few pairs of them."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=280, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    words.train_from_iterator(["a tool is called, a call of a tool"] * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>")


def model(words: int, *, tied: bool) -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=words, tie_word_embeddings=tied, num_key_value_heads=2, **shape))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("spare", [0, 8])
def test_a_tag_is_one_token_whose_row_is_the_mean_of_its_pieces(tied: bool, spare: int) -> None:
    words = tokenizer()
    network = model(len(words) + spare, tied=tied)
    rows = network.get_input_embeddings().weight.detach().clone()
    outputs = network.get_output_embeddings().weight.detach().clone()
    pieces: Any = words.encode("<tool_call>", add_special_tokens=False)
    known = len(words)
    assert add_tags(network, words) == ["<tool_call>", "</tool_call>"]
    tag = words.convert_tokens_to_ids("<tool_call>")
    assert words.encode("<tool_call>", add_special_tokens=False) == [tag]
    for now, before in ((network.get_input_embeddings(), rows), (network.get_output_embeddings(), outputs)):
        assert torch.equal(now.weight[:known], before[:known])
        assert torch.allclose(now.weight[tag], before[pieces].mean(dim=0))
    assert network.get_input_embeddings().num_embeddings == max(known + 2, known + spare)
    assert network.config.vocab_size == network.get_input_embeddings().num_embeddings


def test_a_model_that_does_not_think_can_call_afterwards() -> None:
    words = tokenizer()
    with pytest.raises(ValueError, match="no single token for"):
        ToolCallParser(words, starts_in_think=False)
    add_tags(model(len(words), tied=True), words)
    parser, ids = ToolCallParser(words, starts_in_think=False), words.encode(CALL)
    (span,) = parser.spans(ids)
    assert span.closed
    assert words.decode(ids[: span.open + 1]) == "so\n<tool_call>"
    assert words.decode(ids) == CALL


def test_known_tags_are_left_alone() -> None:
    words = tokenizer()
    words.add_tokens(["<tool_call>", "</tool_call>"])
    network = model(len(words), tied=True)
    assert add_tags(network, words) == []
    assert network.config.vocab_size == len(words)
