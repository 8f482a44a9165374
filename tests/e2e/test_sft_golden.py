"""SFT trains on exactly the tokens and pixels that a rollout is conditioned on and produces.

One example of the world goes both ways: as an SFT row through our `SftDataset` (verl's `MultiTurnSFTDataset`), and as
an RL row through verl's `RLHFDataset` and agent loop, with a scripted server that writes the teacher's turns and the
real tools. One more test goes the way of the teacher's trajectories: a rollout first, then a row made of it. The chat
template drops thinking as Qwen3-VL-Thinking's does: in tests/unit/integration/test_sft_dataset.py a turn rendered alone
has none left.
"""

import asyncio
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from transformers import AutoProcessor, Qwen3VLProcessor
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, DictConfigWrap, ToolListWrap
from verl.experimental.agent_loop.tool_agent_loop import ToolAgentLoop
from verl.tools.tool_registry import load_all_tools
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.workers.rollout.replica import TokenOutput

from examples.tiny_world import model, tables, world
from examples.tiny_world.__main__ import make_tokenizer
from examples.tiny_world.families import NAMES
from examples.tiny_world.tools import write_tools
from verl_axpo import prompts
from verl_axpo.data import parquet
from verl_axpo.integration.agent_loop import AxpoToolAgentLoop
from verl_axpo.integration.sft_dataset import SftDataset

LOOPS = {"hermes": ToolAgentLoop, "axpo": AxpoToolAgentLoop}  # verl's own and ours, by their parser
MANY = 60  # examples in which each family both guesses and calls its tool
QWEN3_VL = {"shortest_edge": 256 * 256, "longest_edge": 4096 * 4096}  # pixels of an image, in its preprocessor's config


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> Qwen3VLProcessor:
    folder = tmp_path_factory.mktemp("model")
    model.save(folder, make_tokenizer(0), 0)
    return AutoProcessor.from_pretrained(folder)


def example_with(calls_tool: bool, family: str) -> Callable[[], world.Example]:
    """A maker of the first example that does or does not call the tool; each call has its own fresh random stream."""
    for index, example in enumerate(world.examples("sft_train", MANY, 0)):
        if family == example.family.NAME and (len(example.demonstration().turns) > 1) == calls_tool:
            return lambda: list(world.examples("sft_train", index + 1, 0))[-1]
    raise AssertionError(f"no example with {calls_tool=} among {MANY}")


def sft_item(example: world.Example, processor: Qwen3VLProcessor, folder: Path) -> dict[str, Any]:
    """The row as verl's SFT trainer gets it."""
    parquet.write(folder / "sft.parquet", [tables.sft_row(example)])
    return sft_items(folder, processor)[0]


def sft_items(folder: Path, processor: Qwen3VLProcessor) -> SftDataset:
    config = OmegaConf.create({"pad_mode": "no_padding", "max_length": 2048, "truncation": "error"})
    return SftDataset(str(folder / "sft.parquet"), processor.tokenizer, config, processor)


def teacher_turns(item: dict[str, Any], end_of_turn: int) -> list[list[int]]:
    """The trained runs of an SFT row, each of which ends with its end-of-turn token."""
    turns: list[list[int]] = [[]]
    for token, trained in zip(item["input_ids"].tolist(), item["loss_mask"].tolist(), strict=True):
        if trained:
            turns[-1].append(token)
        elif turns[-1]:
            turns.append([])
    trained = [turn for turn in turns if turn]
    assert all(turn.index(end_of_turn) == len(turn) - 1 for turn in trained)
    return trained


class ScriptedServer:
    """Answers each request with the teacher's next turn, and keeps what it was asked with."""

    def __init__(self, turns: list[list[int]]) -> None:
        self.turns = iter(turns)
        self.asked: list[list[int]] = []

    async def generate(self, request_id: str, *, prompt_ids: list[int], **_: Any) -> TokenOutput:
        self.asked.append(list(prompt_ids))
        turn = next(self.turns)
        return TokenOutput(token_ids=turn, log_probs=[-0.5] * len(turn), stop_reason="completed")


def rollout_config(parser: str) -> DictConfig:
    multi_turn = {
        "max_user_turns": 4,
        "max_assistant_turns": 4,
        "max_parallel_calls": 2,
        "max_tool_response_length": 256,
        "tool_response_truncate_side": "middle",
        "format": parser,
    }
    rollout = {"prompt_length": 1024, "response_length": 512, "full_determinism": False, "multi_turn": multi_turn}
    return OmegaConf.create({"actor_rollout_ref": {"rollout": rollout}, "algorithm": {}})


def roll_out(
    example: world.Example, turns: list[list[int]], parser: str, processor: Qwen3VLProcessor, folder: Path
) -> tuple[AgentLoopOutput, ScriptedServer]:
    """The row as verl's rollout treats it, the policy writing `turns`."""
    parquet.write(folder / "rl.parquet", [tables.rl_row(example)])
    data_config = OmegaConf.create(
        {"filter_overlong_prompts": False, "cache_dir": str(folder), "return_raw_chat": True}
    )
    row = RLHFDataset(str(folder / "rl.parquet"), processor.tokenizer, data_config, processor)[0]
    server = ScriptedServer(turns)

    async def run() -> AgentLoopOutput:
        loop = LOOPS[parser](
            trainer_config=DictConfigWrap(rollout_config(parser)),
            server_manager=server,
            tokenizer=processor.tokenizer,
            processor=processor,
            dataset_cls=RLHFDataset,
            data_config=DictConfigWrap(data_config),
            hf_model_type="qwen3_vl",
            tools=ToolListWrap(load_all_tools(str(write_tools(folder, example.tools)), None)),
        )
        return await loop.run(sampling_params={}, raw_prompt=row["raw_prompt"], extra_info=row["extra_info"])

    return asyncio.run(run()), server


@pytest.mark.parametrize("parser", LOOPS)
@pytest.mark.parametrize("calls_tool", [False, True], ids=["guess", "tool"])
@pytest.mark.parametrize("family", NAMES)
def test_sft_and_rollout_agree(
    family: str, calls_tool: bool, parser: str, processor: Qwen3VLProcessor, tmp_path: Path
) -> None:
    make = example_with(calls_tool, family)
    item = sft_item(make(), processor, tmp_path)
    end_of_turn, newline = processor.tokenizer.eos_token_id, processor.tokenizer("\n")["input_ids"][0]
    turns = teacher_turns(item, end_of_turn)
    shown = [turn["content"] for turn in make().demonstration().turns if turn["role"] == "assistant"]
    assert [processor.tokenizer.decode(turn) for turn in turns] == [
        text.removeprefix("<think>\n") + "<|im_end|>" for text in shown
    ]
    assert len(turns) == (2 if calls_tool else 1)

    output, server = roll_out(make(), turns, parser, processor, tmp_path)

    # Ids and mask are the same, except the newline after the last end of turn, which no rollout contains.
    trained, mask = item["input_ids"].tolist(), item["loss_mask"].tolist()
    assert trained == [*output.prompt_ids, *output.response_ids, newline]
    assert mask == [0] * len(output.prompt_ids) + list(output.response_mask) + [0]
    assert sum(output.response_mask) == sum(map(len, turns))
    # Every turn was asked for with exactly the tokens that stand before it in the SFT row.
    starts = [i for i in range(1, len(mask)) if mask[i] and not mask[i - 1]]
    assert server.asked == [trained[:start] for start in starts]
    # Pixels: prompt image and crop as the model gets them; the other families have none.
    assert bool(output.multi_modal_data.get("images")) == (family == "perception")
    if family != "perception":
        assert processor.image_token_id not in trained
        return
    inputs = processor.image_processor(images=output.multi_modal_data["images"], return_tensors="pt")
    assert torch.equal(inputs["pixel_values"], item["multi_modal_inputs"]["pixel_values"])
    assert torch.equal(inputs["image_grid_thw"], item["multi_modal_inputs"]["image_grid_thw"])
    features = int(inputs["image_grid_thw"].prod(-1).sum()) // model.MERGE**2
    assert trained.count(processor.image_token_id) == features


@pytest.mark.parametrize("parser", LOOPS)
def test_a_rollout_and_the_row_made_of_it_agree(parser: str, processor: Qwen3VLProcessor, tmp_path: Path) -> None:
    """Two calls in one turn, newlines that no template writes around thinking, crops that Qwen3-VL's limits enlarge.

    The strip of 256 x 36 pixels comes back in the area of a cell, 64 x 64, as 171 x 24. To 65,536 pixels that is a
    factor of 3.996 and, sides rounded up to whole tokens, 704 x 96: 22 x 3 = 66 of them. Had verl rounded the sides
    first, 160 x 32 would grow by 3.578 to 576 x 128: 72.
    """
    large = copy.deepcopy(processor)
    large.image_processor.size = type(large.image_processor.size)(**QWEN3_VL)
    example, tokenizer = example_with(True, "perception")(), processor.tokenizer
    strip = prompts.tool_call("image_zoom_in", {"bbox_2d": [0, 0, 1000, 140], "label": "strip"})
    texts = [f"\n\n twice</think>\n{strip}\n{strip}", "so\n\n</think><answer>\\boxed{dots}</answer>\n"]
    turns = [[*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id] for text in texts]

    output, _ = roll_out(example, turns, parser, large, tmp_path)

    images = output.multi_modal_data["images"]
    first, last = ({"role": "assistant", "content": "<think>\n" + text} for text in texts)
    response = {"role": "tool", "content": "<image>"}
    row = tables.sft_row(example) | {"images": [*map(tables.png, [*example.problem.images, *images[1:]])]}
    row["messages"] = [*row["messages"][:2], first, response, response, last]
    parquet.write(tmp_path / "sft.parquet", [row])
    item = sft_items(tmp_path, large)[0]
    newline = tokenizer("\n")["input_ids"][0]
    assert item["input_ids"].tolist() == [*output.prompt_ids, *output.response_ids, newline]
    assert item["loss_mask"].tolist() == [0] * len(output.prompt_ids) + list(output.response_mask) + [0]
    inputs = large.image_processor(images=images, return_tensors="pt")
    assert torch.equal(inputs["pixel_values"], item["multi_modal_inputs"]["pixel_values"])
    assert [int(grid.prod()) // model.MERGE**2 for grid in item["multi_modal_inputs"]["image_grid_thw"]][1:] == [66, 66]


def test_without_schemas_the_prompts_would_differ(processor: Qwen3VLProcessor, tmp_path: Path) -> None:
    """An SFT row without its `tools` column differs from the rollout, and this file would notice."""
    example = example_with(False, "perception")()
    row = tables.sft_row(example)
    del row["tools"]
    parquet.write(tmp_path / "sft.parquet", [row])
    item = sft_items(tmp_path, processor)[0]
    whole = sft_item(example_with(False, "perception")(), processor, tmp_path)
    assert item["input_ids"].tolist() != whole["input_ids"].tolist()
