"""The pretrained example without its weights: a GGUF file of its kind becomes a checkpoint that can call a tool."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from examples.smollm2 import benchmark
from examples.smollm2.checkpoint import convert
from examples.smollm2.problems import demonstrate, problems, value
from examples.smollm2.tables import TOOLS, rl_row
from verl_axpo import prompts
from verl_axpo.tools.chat_format import format_of

WIDTH, INNER, HEADS, LAYERS = 64, 64, 2, 1
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# A conversation as SmolLM2's own template renders it, but for the newline after the last end of turn
CHATML = "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def write_gguf(path: Path) -> None:
    """A Llama of one layer with random weights, and a tokenizer of bytes and two pairs."""
    words = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "ab", "cd"]
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(words) - len(SPECIAL)))
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    shapes = {"token_embd": (len(words), WIDTH), "output_norm": (WIDTH,)}
    for name, shape in {
        **{f"attn_{part}": (WIDTH, WIDTH) for part in ("q", "k", "v", "output")},
        **{f"ffn_{part}": (INNER, WIDTH) for part in ("gate", "up")},
        "ffn_down": (WIDTH, INNER),
        **{f"{part}_norm": (WIDTH,) for part in ("attn", "ffn")},
    }.items():
        shapes[f"blk.0.{name}"] = shape
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.normal(0, 0.1, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smollm2")
    write_gguf(folder / "model.gguf")
    convert(folder / "model.gguf", folder / "checkpoint")
    return folder / "checkpoint"


def test_the_checkpoint_can_call_and_does_not_think(checkpoint: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
    found = format_of(tokenizer)
    assert (found.syntax.name, found.thinking, found.announces, found.closes_turn) == ("hermes", "none", True, True)
    assert found.parser(tokenizer).spans(tokenizer.encode("so <tool_call>{}</tool_call>"))
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")


def test_the_checkpoint_loads_and_ends_turns(checkpoint: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    assert model.get_input_embeddings().num_embeddings == len(tokenizer) == model.config.vocab_size
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert torch.isfinite(model(input_ids=torch.arange(8)[None]).logits).all()


def test_without_tools_the_template_is_chatml(checkpoint: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
    asked = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}]
    assert tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True) == CHATML


def test_a_tool_is_announced_in_a_line(checkpoint: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
    row = rl_row(*next((index, made, "train") for index, made, _ in problems("train", 1, 0)))
    text = tokenizer.apply_chat_template(row["prompt"], tools=prompts.tool_schemas(TOOLS), tokenize=False)
    assert "\npython(code): Run code.\n" in text
    assert text.count("<|im_start|>") == 2


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no file"):
        convert(tmp_path / "none.gguf", tmp_path / "out")


def test_the_right_expression_is_right_and_the_careless_one_is_not() -> None:
    for _, made, _ in problems("train", 500, 0):
        assert value(made.right) == made.answer != value(made.careless)
        assert int(made.answer) > 0


def test_no_held_out_problem_is_trained_on() -> None:
    trained = {made.right for split in ("train", "sft_train") for _, made, _ in problems(split, 2048, 0)}
    assert trained.isdisjoint(made.right for _, made, _ in problems("heldout", 64, 0))
    assert [question.prompt for question in benchmark.load("arithmetic", limit=3)] == [
        made.question for _, made, _ in problems("heldout", 3, 0)
    ]


def test_demonstrations_call_about_as_often_as_they_should() -> None:
    shown = [demonstrate(made, rng) for _, made, rng in problems("sft_train", 2000, 0)]
    calls = [turns for turns in shown if len(turns) == 3]
    assert 0.35 < len(calls) / len(shown) < 0.45
    assert all(turns[1]["content"] in turns[2]["content"] for turns in calls)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="choose from"):
        next(problems("test", 1, 0))
