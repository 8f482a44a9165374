"""SFT and RL rows as verl's own datasets read them: the prompts of both are the same, tool schemas included."""

import copy
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from PIL import Image
from transformers import AutoProcessor, Qwen3VLProcessor
from verl.utils.dataset.dataset_utils import DatasetPadMode, SFTTensorCollator
from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.utils.model import extract_multi_modal_inputs

from examples.tiny_world import model, tables, world
from examples.tiny_world.__main__ import make_tokenizer
from examples.tiny_world.fixtures import encoded, picture
from verl_axpo import prompts
from verl_axpo.data import parquet
from verl_axpo.data.images import ImageStore
from verl_axpo.data.problem import Problem
from verl_axpo.data.rollouts import Rollout
from verl_axpo.data.rows import rl_row, rl_schema, sft_row, sft_schema
from verl_axpo.integration.sft_dataset import SftDataset
from verl_axpo.tools.paper_tools import IMAGE_ZOOM_IN

TOOLS = [IMAGE_ZOOM_IN]
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


def sft_item(path: Path, processor: Qwen3VLProcessor) -> dict[str, Any]:
    config = OmegaConf.create({"pad_mode": "no_padding", "max_length": 2048, "truncation": "error"})
    return SftDataset(str(path), processor.tokenizer, config, processor)[0]


def sft_text(path: Path, processor: Qwen3VLProcessor) -> str:
    return processor.tokenizer.decode(sft_item(path, processor)["input_ids"])


def written(folder: Path, *turns: dict[str, Any]) -> Path:
    """A row without images: a question, and what came after it."""
    parquet.write(folder / "sft.parquet", [{"messages": [*prompts.prompt_messages("Which?", []), *turns]}])
    return folder / "sft.parquet"


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


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


def test_the_template_alone_drops_the_thinking_of_a_turn(processor: Qwen3VLProcessor) -> None:
    """Qwen3-VL-Thinking's rule, which SFT must not follow: thinking is shown after the last question only, and a
    message rendered by itself stands after none."""
    turn, question = assistant(ANSWER), {"role": "user", "content": "Which?"}
    response = {"role": "tool", "content": "7"}

    def shown(*messages: dict[str, Any]) -> str:
        return processor.apply_chat_template(list(messages), tokenize=False)

    assert "so" not in shown(turn)
    assert "so" not in shown(question, turn, question)
    assert "so" in shown(question, turn)
    assert "so" in shown(question, turn, response)
    # a tool's response may also come as the user's, and is no question then either
    assert "so" in shown(question, turn, {"role": "user", "content": "<tool_response>\n7\n</tool_response>"})


def test_verls_own_dataset_stops_at_such_a_template(processor: Qwen3VLProcessor, tmp_path: Path) -> None:
    """When this fails, verl renders turns in another way, and ours may have less to do (verl issues 7378, 7807)."""
    config = OmegaConf.create({"pad_mode": "no_padding", "max_length": 2048, "truncation": "error"})
    path = written(tmp_path, assistant(ANSWER))
    with pytest.raises(AssertionError, match="each turn separately"):
        MultiTurnSFTDataset(str(path), processor.tokenizer, config, processor)[0]
    assert "so" in sft_text(path, processor)


def test_every_turn_is_trained_as_it_was_written(processor: Qwen3VLProcessor, tmp_path: Path) -> None:
    """Thinking before a second question, empty thinking, newlines of the policy's own, a marker spelled out in letters:
    a template would drop the first two and trim the third, and the fourth would end the turn."""
    texts = ["first\n</think>\n\nA", "\n</think>\n\nB", "\n\n third</think>C <|im_end|> D\n"]
    first, second, third = (assistant("<think>\n" + text) for text in texts)
    question = {"role": "user", "content": "And now?"}
    item = sft_item(written(tmp_path, first, {"role": "tool", "content": "7"}, second, question, third), processor)
    ids, mask, decode = item["input_ids"], item["loss_mask"].bool(), processor.tokenizer.decode
    assert decode(ids[mask]) == "".join(text + "<|im_end|>" for text in texts)
    opening, end = "<|im_start|>assistant\n<think>\n", "<|im_end|>\n"
    seven = "<|im_start|>user\n<tool_response>\n7\n</tool_response>" + end
    again = "<|im_start|>user\nAnd now?" + end
    turns = [opening + text + end for text in texts]
    assert decode(ids).endswith("Which?" + end + turns[0] + seven + turns[1] + again + turns[2])
    # an end of turn after system, question, tool and second question, and three that are trained
    assert (ids == processor.tokenizer.eos_token_id).sum() == 7
    assert (ids[mask] == processor.tokenizer.eos_token_id).sum() == 3
    # the generation prompt's newline and the text's own are what a rollout has: tokens of their own
    newline = processor.tokenizer("\n")["input_ids"]
    start = (mask & ~mask.roll(1)).nonzero()[-1].item()
    assert ids[start - 1 : start].tolist() == newline


def test_the_responses_to_one_turn_share_the_users_turn(processor: Qwen3VLProcessor, tmp_path: Path) -> None:
    responses = [{"role": "tool", "content": text} for text in ("one", "two")]
    learned = sft_text(written(tmp_path, assistant(ANSWER), *responses, assistant(ANSWER)), processor)
    body = "<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response>"
    assert f"<|im_end|>\n<|im_start|>user\n{body}<|im_end|>\n<|im_start|>assistant\n" in learned


def test_a_tools_picture_keeps_its_size(store: ImageStore, processor: Qwen3VLProcessor, tmp_path: Path) -> None:
    """A picture of 80 x 80 pixels: 80 / 32 = 2.5 is rounded to even, so 2 x 2 tokens of 4 patches. verl shrinks the
    question's beforehand, as a rollout does: as many tokens, of other pixels."""
    picture_80 = store.add(encoded(picture("same").resize((80, 80)))).sha256
    problem = replace(problem_in(store), images=(picture_80,))
    rollout = rollout_in(store).model_copy(update={"images": (picture_80,)})
    pixels = []
    for embed in (True, False):
        parquet.write(tmp_path / "sft.parquet", [sft_row(problem, rollout, TOOLS, store, embed)], sft_schema(embed))
        features = sft_item(tmp_path / "sft.parquet", processor)["multi_modal_inputs"]
        assert features["image_grid_thw"].tolist() == [[1, 4, 4], [1, 4, 4]]
        pixels.append(features["pixel_values"])
    with Image.open(store.path(picture_80)) as image:
        alone = processor.image_processor(images=[image], return_tensors="pt")["pixel_values"]
    assert pixels[0].equal(pixels[1])
    assert pixels[0][16:].equal(alone)
    assert not pixels[0][:16].equal(alone)


def turned(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("embed", [True, False], ids=["embedded", "referenced"])
def test_a_users_own_pictures_are_learned_as_they_are_seen(
    embed: bool, processor: Qwen3VLProcessor, tmp_path: Path
) -> None:
    shown = picture("a").resize((64, 64))
    clear = shown.convert("RGBA")
    clear.putdata([(0, 0, 0, 0) if pixel[:3] == (255, 255, 255) else pixel for pixel in clear.getdata()])
    stored = shown.transpose(Image.Transpose.ROTATE_90)  # turned to the right, it is `shown` again
    pixels = []
    for name, data in (("plain", encoded(shown)), ("turned", turned(stored)), ("clear", encoded(clear))):
        (tmp_path / name).write_bytes(data)
        cell = {"bytes": data} if embed else {"image": str(tmp_path / name)}
        call = prompts.tool_call("image_zoom_in", {"bbox_2d": [0, 0, 500, 500], "label": "x"})
        turns = [assistant(f"<think>\nlook\n</think>\n\n{call}"), {"role": "tool", "content": "<image>"}]
        messages = [*prompts.prompt_messages("<image>Which?", []), *turns, assistant(ANSWER)]
        parquet.write(tmp_path / "sft.parquet", [{"messages": messages, "images": [cell, cell]}])
        pixels.append(sft_item(tmp_path / "sft.parquet", processor)["multi_modal_inputs"]["pixel_values"])
    assert pixels[0].equal(pixels[1])
    assert pixels[0].equal(pixels[2])


@pytest.mark.parametrize("marker", ["<video>", "<audio>", "<|image_pad|>", "<|im_end|>"])
@pytest.mark.parametrize("images", [0, 1])
def test_a_marker_in_a_rows_text_is_text(marker: str, images: int, processor: Qwen3VLProcessor, tmp_path: Path) -> None:
    question = "<image>" * images + f"What is {marker}?"
    answer = ANSWER.replace("so", f"It says {marker}")
    messages = [*prompts.prompt_messages(question, []), assistant(answer)]
    cells = {"images": [{"bytes": encoded(picture("a"))}]} if images else {}
    parquet.write(tmp_path / "sft.parquet", [{"messages": messages, **cells}])
    item = sft_item(tmp_path / "sft.parquet", processor)
    text = processor.tokenizer.decode(item["input_ids"])
    assert f"What is < {marker[1:]}?" in text
    assert f"It says {marker}" in text  # what the policy wrote stays, letter by letter
    assert "image_grid_thw" in item.get("multi_modal_inputs", {}) or not images


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (assistant("7"), r"row 0: got an assistant's turn that begins with '7', expected '<think>\\n'"),
        (assistant(ANSWER, tool_calls=[{"name": "f"}]), r"row 0: got \['tool_calls'\] next to"),
        (assistant("7", reasoning_content="so"), r"row 0: got \['reasoning_content'\] next to"),
        (assistant(ANSWER + "<image>"), "row 0: got <image> in an assistant's turn"),
    ],
    ids=["no thinking", "calls apart", "thinking apart", "a picture"],
)
def test_a_turn_that_no_policy_wrote_is_refused_before_training(
    turn: dict[str, Any], message: str, processor: Qwen3VLProcessor, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        sft_item(written(tmp_path, turn), processor)


def test_images_and_placeholders_must_be_as_many(
    store: ImageStore, processor: Qwen3VLProcessor, tmp_path: Path
) -> None:
    row = sft_row(problem_in(store), rollout_in(store), TOOLS, store, True)
    parquet.write(tmp_path / "sft.parquet", [row | {"images": row["images"][:1]}], sft_schema(True))
    with pytest.raises(ValueError, match=r"got 1 image\(s\) for 2 <image>"):
        sft_item(tmp_path / "sft.parquet", processor)


def test_a_template_without_thinking_holds_nothing_back(processor: Qwen3VLProcessor, tmp_path: Path) -> None:
    plain = copy.deepcopy(processor)
    plain.tokenizer.chat_template = plain.chat_template = processor.chat_template.replace(
        "assistant\\n<think>\\n'", "assistant\\n'"
    )
    item = sft_item(written(tmp_path, assistant("7")), plain)
    assert plain.tokenizer.decode(item["input_ids"][item["loss_mask"].bool()]) == "7<|im_end|>"


@pytest.mark.parametrize("switch", [True, False])
def test_a_row_that_switches_thinking_for_itself_is_refused(
    processor: Qwen3VLProcessor, tmp_path: Path, switch: bool
) -> None:
    """No rollout has such a prompt: all of them are rendered with `data.apply_chat_template_kwargs`."""
    path = written(tmp_path, assistant(ANSWER))
    table = pq.read_table(path)
    pq.write_table(table.append_column("enable_thinking", pa.array([switch] * len(table))), path)
    with pytest.raises(ValueError, match=rf"row 0: got enable_thinking={switch}, expected None"):
        sft_item(path, processor)
