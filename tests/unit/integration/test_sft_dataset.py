"""SFT and RL rows as verl's own datasets read them: the prompts of both are the same, tool schemas included."""

import copy
import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from transformers import AutoProcessor, Qwen3VLProcessor
from verl.utils.dataset.dataset_utils import DatasetPadMode, SFTTensorCollator
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.utils.model import extract_multi_modal_inputs

from verl_axpo import prompts
from verl_axpo.data import parquet
from verl_axpo.data.fixtures import encoded, picture
from verl_axpo.data.images import ImageStore
from verl_axpo.data.problem import Problem
from verl_axpo.data.rollouts import Rollout
from verl_axpo.data.rows import rl_row, rl_schema, sft_row, sft_schema
from verl_axpo.data.tiny import model, tables, world
from verl_axpo.data.tiny.__main__ import make_tokenizer
from verl_axpo.integration.sft_dataset import SftDataset

TOOLS = ["image_zoom_in"]
CODE = {"type": "function", "function": {"name": "python", "parameters": {"properties": {"code": {"type": "string"}}}}}
ANSWER = "<think>\nso\n</think>\n\n<answer>\\boxed{7}</answer>"


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> Qwen3VLProcessor:
    folder = tmp_path_factory.mktemp("model")
    model.save(folder, make_tokenizer(0), 0)
    return AutoProcessor.from_pretrained(folder)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def problem_in(store: ImageStore) -> Problem:
    image = store.add(encoded(picture("a"))).sha256
    return Problem(
        id="s/1", source="s", question="<image>\nWhich number?", answer="7", answer_type="math", images=(image,)
    )


def rollout_in(store: ImageStore) -> Rollout:
    """A call, the crop it returned, the answer."""
    call = prompts.tool_call("image_zoom_in", {"bbox_2d": [0, 0, 500, 500], "label": "x"})
    turns = [
        {"role": "assistant", "content": f"<think>\nlook\n</think>\n\n{call}"},
        {"role": "tool", "content": "<image>"},
        {"role": "assistant", "content": ANSWER},
    ]
    return Rollout.model_validate(
        {
            "problem_id": "s/1",
            "model": "teacher",
            "sample": 0,
            "correct": True,
            "tool_calls": 1,
            "turns": turns,
            "images": [store.add(encoded(picture("crop"))).sha256],
        }
    )


def sft_text(path: Path, processor: Qwen3VLProcessor) -> str:
    config = OmegaConf.create({"pad_mode": "no_padding", "max_length": 2048, "truncation": "error"})
    item = SftDataset(str(path), processor.tokenizer, config, processor)[0]
    return processor.tokenizer.decode(item["input_ids"])


@pytest.mark.parametrize("embed", [True, False], ids=["embedded", "referenced"])
def test_verl_renders_the_prompt_of_sft_and_rl_alike(
    embed: bool, store: ImageStore, processor: Qwen3VLProcessor, tmp_path: Path
) -> None:
    problem, rollout = problem_in(store), rollout_in(store)
    parquet.write(tmp_path / "sft.parquet", [sft_row(problem, rollout, TOOLS, store, embed)], sft_schema(embed))
    parquet.write(tmp_path / "rl.parquet", [rl_row(problem, 0, "train", TOOLS, store, embed)], rl_schema(embed))
    config = OmegaConf.create({"filter_overlong_prompts": False, "cache_dir": str(tmp_path), "return_raw_chat": True})
    row = RLHFDataset(str(tmp_path / "rl.parquet"), processor.tokenizer, config, processor)[0]
    assert (row["data_source"], row["extra_info"]["answer_type"], row["index"]) == ("s", "math", 0)
    asked = processor.apply_chat_template(
        row["raw_prompt"], tools=prompts.tool_schemas(TOOLS), add_generation_prompt=True, tokenize=False
    )
    learned = sft_text(tmp_path / "sft.parquet", processor)
    # The image's placeholder grows into as many tokens as it has patches; everything before it is the prompt.
    before, _, after = asked.partition("<|image_pad|>")
    assert learned.startswith(before)
    assert learned.replace("<|image_pad|>", "").startswith(before + after)
    assert learned.count("<|vision_start|>") == 2  # the picture and the crop
    assert ANSWER in learned


def test_tools_with_different_parameters_keep_their_own(
    store: ImageStore, processor: Qwen3VLProcessor, tmp_path: Path
) -> None:
    row = sft_row(problem_in(store), rollout_in(store), TOOLS, store, True)
    tools = [*prompts.tool_schemas(TOOLS), CODE]
    parquet.write(tmp_path / "sft.parquet", [row | {"tools": json.dumps(tools)}], sft_schema(True))
    learned = sft_text(tmp_path / "sft.parquet", processor)
    rendered = processor.apply_chat_template(row["messages"][:1], tools=tools, tokenize=False)
    assert learned.startswith(rendered)
    # The same schemas as nested columns: each tool gets the parameters of the other, as nulls
    parquet.write(tmp_path / "nested.parquet", [row | {"tools": copy.deepcopy(tools)}])
    nested = sft_text(tmp_path / "nested.parquet", processor)
    assert not nested.startswith(rendered)
    assert '"bbox_2d": null' in nested


@pytest.mark.parametrize("order", [("reasoning", "perception"), ("perception", "reasoning"), ("reasoning", "search")])
def test_a_batch_may_mix_rows_with_and_without_images(
    order: tuple[str, str], processor: Qwen3VLProcessor, tmp_path: Path
) -> None:
    """verl's own collator looks at the first row alone; a failure here without our default says that it still does."""
    rows = [tables.sft_row(next(world.examples("sft_train", 1, 0, [name]))) for name in order]
    parquet.write(tmp_path / "sft.parquet", rows)
    config = OmegaConf.create({"pad_mode": "no_padding", "max_length": 512, "truncation": "error"})
    dataset = SftDataset(str(tmp_path / "sft.parquet"), processor.tokenizer, config, processor)
    batch = SFTTensorCollator(DatasetPadMode.NO_PADDING)([dataset[0], dataset[1]])
    features = extract_multi_modal_inputs(list(batch["multi_modal_inputs"]))
    assert len(features.get("image_grid_thw", [])) == sum("<image>" in str(row["messages"]) for row in rows)
