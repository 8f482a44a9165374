"""The RL dataset: what the model, the zoom tool and python see of a picture, and markers in a question's text."""

import asyncio
import hashlib
import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from transformers import AutoProcessor, Qwen3VLProcessor
from verl.experimental.agent_loop.agent_loop import DictConfigWrap, ToolListWrap
from verl.utils.dataset.rl_dataset import RLHFDataset, get_dataset_class
from verl.workers.rollout.replica import TokenOutput

from examples.tiny_world import model
from examples.tiny_world.__main__ import make_tokenizer
from verl_axpo import prompts
from verl_axpo.data import parquet
from verl_axpo.images import open_image
from verl_axpo.integration.agent_loop import AxpoToolAgentLoop
from verl_axpo.integration.dataset import AxpoDataset
from verl_axpo.integration.training_rows import DATASET
from verl_axpo.tools.image_zoom_in import ImageZoomIn
from verl_axpo.tools.paper_tools import IMAGE_ZOOM_IN
from verl_axpo.tools.python import Python

SIDE = 128  # pixels; a multiple of the patches' size, so that verl resizes nothing
HASHES = "import hashlib; [hashlib.sha256(image.tobytes()).hexdigest()[:8] for image in _pil_images]"


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> Qwen3VLProcessor:
    folder = tmp_path_factory.mktemp("model")
    model.save(folder, make_tokenizer(0), 0)
    return AutoProcessor.from_pretrained(folder)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def drawing() -> Image.Image:
    """A black triangle's corner on nothing."""
    image = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, SIDE // 2, SIDE // 4))
    return image


def files() -> dict[str, bytes]:
    """Pictures that Pillow opens in another way than they are seen."""
    exif = Image.Exif()
    exif[0x112] = 6
    photograph = Image.new("RGB", (SIDE, SIDE), "white")
    photograph.paste("red", (0, 0, 32, 32))
    scan = np.tile(np.linspace(0, 65_535, SIDE).astype(np.uint16), (SIDE, 1))
    return {
        "turned": encoded(photograph, "JPEG", exif=exif),
        "transparent": encoded(drawing()),
        "transparent grey": encoded(drawing().convert("LA")),
        "palette": encoded(drawing().quantize(4, Image.Quantize.FASTOCTREE)),
        "16 bit": encoded(Image.fromarray(scan)),
    }


def data_config(folder: Path, **more: Any) -> Any:
    values = {"filter_overlong_prompts": False, "cache_dir": str(folder), "return_raw_chat": True, **more}
    return OmegaConf.create(values)


def dataset(
    folder: Path, rows: list[dict[str, Any]], processor: Any, kind: type[RLHFDataset] = AxpoDataset, **config: Any
) -> RLHFDataset:
    parquet.write(folder / "rl.parquet", rows)
    return kind(str(folder / "rl.parquet"), processor.tokenizer, data_config(folder, **config), processor)


def row(text: str, *images: Any, **more: Any) -> dict[str, Any]:
    prompt = prompts.prompt_messages(text, [IMAGE_ZOOM_IN])
    return {"data_source": "s", "prompt": prompt, "images": list(images), "extra_info": {"index": 0}, **more}


class ScriptedServer:
    """Writes the given turns, and keeps the images that it was shown."""

    def __init__(self, tokenizer: Any, turns: list[str]) -> None:
        self.turns = [tokenizer(f"Look.\n</think>\n\n{turn}<|im_end|>")["input_ids"] for turn in turns]
        self.shown: list[list[Image.Image]] = []

    async def generate(self, request_id: str, *, image_data: list[Image.Image], **_: Any) -> TokenOutput:
        self.shown.append(list(image_data or ()))
        turn = self.turns[len(self.shown) - 1]
        return TokenOutput(token_ids=turn, log_probs=[-0.5] * len(turn), stop_reason="completed")


async def run_loop(
    raw_prompt: list[Any], processor: Any, folder: Path, turns: list[str], kind: Any = AxpoDataset, *tools: Any
) -> tuple[Any, Any]:
    """verl's loop on the row; what the model was shown, and the text of the conversation."""
    multi_turn = {
        "max_user_turns": 8,
        "max_assistant_turns": 8,
        "max_parallel_calls": 1,
        "max_tool_response_length": 4096,
        "tool_response_truncate_side": "middle",
        "format": "axpo",
    }
    rollout = {"prompt_length": 512, "response_length": 8192, "full_determinism": False, "multi_turn": multi_turn}
    zoom = ImageZoomIn({"type": "native", "min_pixels": 1, "max_pixels": SIDE * SIDE})
    server = ScriptedServer(processor.tokenizer, turns)
    loop = AxpoToolAgentLoop(
        trainer_config=DictConfigWrap(
            OmegaConf.create({"actor_rollout_ref": {"rollout": rollout}, "algorithm": {}, "data": {}})
        ),
        server_manager=server,
        tokenizer=processor.tokenizer,
        processor=processor,
        dataset_cls=kind,
        data_config=DictConfigWrap(OmegaConf.create({"cache_dir": str(folder)})),
        hf_model_type="qwen3_vl",
        tools=ToolListWrap([zoom, *tools]),
    )
    output = await loop.run(sampling_params={}, raw_prompt=raw_prompt)
    return server.shown[-1], processor.tokenizer.decode(output.response_ids)


@pytest.mark.parametrize(("kind", "embed"), [(AxpoDataset, True), (RLHFDataset, False)], ids=["ours", "verls"])
def test_model_zoom_and_python_see_the_same_pixels(
    kind: type[RLHFDataset], embed: bool, processor: Qwen3VLProcessor, tmp_path: Path
) -> None:
    pictures = files()
    for name, data in pictures.items():
        (tmp_path / name).write_bytes(data)
    cells = [{"bytes": data} if embed else {"image": str(tmp_path / name)} for name, data in pictures.items()]
    messages = dataset(tmp_path, [row("<image>" * len(cells), *cells)], processor, kind)[0]["raw_prompt"]
    boxes = [{"bbox_2d": [0, 0, 1000, 1000], "label": "all", "img_idx": index} for index in range(len(cells))]
    zooms = [prompts.tool_call("image_zoom_in", box) for box in boxes]
    turns = [*zooms, prompts.tool_call("python", {"code": HASHES}), prompts.answer("7")]

    async def asked() -> tuple[Any, Any]:
        python = Python({"type": "native", "memory_mb": 256})
        try:
            return await run_loop(messages, processor, tmp_path, turns, kind, python)
        finally:
            await python.close()

    shown, text = asyncio.run(asked())
    expected = [open_image(data).tobytes() for data in pictures.values()]
    assert [image.tobytes() for image in shown[: len(cells)]] == expected  # the model
    assert [image.tobytes() for image in shown[len(cells) :]] == expected  # the zoom tool
    hashes = [hashlib.sha256(pixels).hexdigest()[:8] for pixels in expected]
    assert str([*hashes, *hashes]) in text  # python, which sees the crops as well


def test_a_zoom_on_the_corner_that_the_model_sees_returns_that_corner(
    processor: Qwen3VLProcessor, tmp_path: Path
) -> None:
    call = prompts.tool_call("image_zoom_in", {"bbox_2d": [750, 0, 1000, 250], "label": "red"})
    cell = {"bytes": files()["turned"]}  # turned to the right: the red corner is the upper right one
    messages = dataset(tmp_path, [row("<image>Which?", cell)], processor)[0]["raw_prompt"]
    turns = [call, prompts.answer("red")]
    (seen, crop), _ = asyncio.run(run_loop(messages, processor, tmp_path, turns))
    assert seen.getpixel((SIDE - 5, 5))[1] < 60
    assert all(high < 60 for _, high in crop.getextrema()[1:])  # neither green nor blue anywhere


def test_an_embedded_picture_travels_as_its_file(processor: Qwen3VLProcessor, tmp_path: Path) -> None:
    data = files()["turned"]
    part = dataset(tmp_path, [row("<image>?", {"bytes": data})], processor)[0]["raw_prompt"][1]["content"][0]
    assert part == {"type": "image", "bytes": data}


@pytest.mark.parametrize(
    "marker",
    ["<video>", "<audio>", "<|image_pad|>", "<|vision_start|>", "<|im_end|>", "<|endoftext|>", "<|video_pad|>"],
)
@pytest.mark.parametrize("images", [0, 1])
def test_a_marker_in_a_questions_text_is_text(
    marker: str, images: int, processor: Qwen3VLProcessor, tmp_path: Path
) -> None:
    cells = [{"bytes": files()["transparent"]}] * images
    text = "<image>" * images + f"What does {marker} mean?"
    messages = dataset(tmp_path, [row(text, *cells)], processor)[0]["raw_prompt"]
    _, output = asyncio.run(run_loop(messages, processor, tmp_path, [prompts.answer("7")]))
    assert "boxed{7}" in output
    shown = processor.apply_chat_template(messages, tokenize=False)
    assert f"What does < {marker[1:]} mean?" in shown


def test_an_image_marker_in_a_question_without_images_is_text(processor: Qwen3VLProcessor, tmp_path: Path) -> None:
    rows = [row("What does <image> mean?") | {"images": None}, row("<image>?", {"bytes": files()["transparent"]})]
    first = dataset(tmp_path, rows, processor)[0]["raw_prompt"]
    assert first[1]["content"] == "What does < image> mean?"


def test_the_prompts_own_tags_stay(processor: Qwen3VLProcessor, tmp_path: Path) -> None:
    text = "Answer in <answer></answer> after <think></think>."
    messages = dataset(tmp_path, [row(text)], processor)[0]["raw_prompt"]
    assert messages == prompts.prompt_messages(text, [IMAGE_ZOOM_IN])


def test_a_row_whose_markers_and_images_differ_is_left_out_counted_with_its_reason(
    processor: Qwen3VLProcessor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cell = {"bytes": files()["transparent"]}
    rows = [row("<image>1?", cell), row("<image><image>2?", cell), row("3?", cell), row("<image>4?", cell)]
    with caplog.at_level(logging.WARNING):
        kept = dataset(tmp_path, rows, processor)
    assert [item["prompt"][1]["content"][-1]["text"] for item in kept] == ["1?", "4?"]
    assert "2 of 4 rows cannot be asked" in caplog.text
    assert "row 1: got 2 <image> in its text for 1 image(s)" in caplog.text
    assert "row 2: got 0 <image> in its text for 1 image(s)" in caplog.text
    with pytest.raises(ValueError, match=r"1 of 1 rows cannot be asked"):
        dataset(tmp_path, rows[1:2], processor)


def test_rows_that_are_too_long_are_measured_on_what_we_open(processor: Qwen3VLProcessor, tmp_path: Path) -> None:
    torch.ones(1 << 20).sum()  # opens torch's threads in this process, before the filter forks
    cells = [{"bytes": data} for data in files().values()]
    rows = [row("<image>?", cell) for cell in cells]
    assert len(dataset(tmp_path, rows, processor, filter_overlong_prompts=True, max_prompt_length=4096)) == len(rows)
    short = {"filter_overlong_prompts": True, "max_prompt_length": 8}
    assert len(dataset(tmp_path, rows, processor, **short)) == 0


def test_verl_finds_our_dataset_by_the_name_that_the_switch_sets() -> None:
    config = OmegaConf.create({"custom_cls": {"path": DATASET, "name": "AxpoDataset"}})
    assert get_dataset_class(config).__name__ == "AxpoDataset"
