"""A crop joins the conversation: in verl's real loop, and in ours, the next call reaches it by its index.

What ours generated for a resample is its response without tool answers and without the prefix.
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from PIL import Image
from transformers import AutoProcessor, Qwen3VLProcessor
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, DictConfigWrap, ToolListWrap
from verl.experimental.agent_loop.tool_agent_loop import ToolAgentLoop
from verl.tools.schemas import ToolResponse
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.workers.rollout.replica import TokenOutput

from examples.tiny_world import model
from examples.tiny_world.__main__ import make_tokenizer
from verl_axpo import prompts
from verl_axpo.integration.agent_loop import AxpoToolAgentLoop
from verl_axpo.integration.shared import LoopContext, running_in
from verl_axpo.integration.trajectory import Trajectory
from verl_axpo.integration.turn_client import Prefix
from verl_axpo.tools.image_zoom_in import ImageZoomIn
from verl_axpo.tools.paper_tools import IMAGE_ZOOM_IN
from verl_axpo.tools.policy_tool import Answer, PolicyTool

LOOPS = {"hermes": ToolAgentLoop, "axpo": AxpoToolAgentLoop}  # verl's own and ours, by their parser
TOOLS = (IMAGE_ZOOM_IN,)


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> Qwen3VLProcessor:
    folder = tmp_path_factory.mktemp("model")
    model.save(folder, make_tokenizer(0), 0)
    return AutoProcessor.from_pretrained(folder)


class ScriptedServer:
    """Writes the given turns, and records the images in the prompt before each."""

    def __init__(self, tokenizer: Any, turns: list[str]) -> None:
        self.turns = [tokenizer(f"Look.\n</think>\n\n{turn}<|im_end|>")["input_ids"] for turn in turns]
        self.shown: list[list[Image.Image]] = []

    async def generate(self, request_id: str, *, image_data: list[Image.Image], **_: Any) -> TokenOutput:
        self.shown.append(list(image_data or ()))
        turn = self.turns[len(self.shown) - 1]
        return TokenOutput(token_ids=turn, log_probs=[-0.5] * len(turn), stop_reason="completed")


def config(parser: str) -> DictConfigWrap:
    multi_turn = {
        "max_user_turns": 8,
        "max_assistant_turns": 8,
        "max_parallel_calls": 1,
        "max_tool_response_length": 256,
        "tool_response_truncate_side": "middle",
        "format": parser,
    }
    rollout = {"prompt_length": 512, "response_length": 1024, "full_determinism": False, "multi_turn": multi_turn}
    return DictConfigWrap(OmegaConf.create({"actor_rollout_ref": {"rollout": rollout}, "algorithm": {}}))


def picture() -> Image.Image:
    """256 x 256: red, and in its lower right quarter green, whose own lower right quarter is blue."""
    image = Image.new("RGB", (256, 256), (255, 0, 0))
    image.paste((0, 255, 0), (128, 128, 256, 256))
    image.paste((0, 0, 255), (192, 192, 256, 256))
    return image


QUARTER = {"bbox_2d": [500, 500, 1000, 1000], "label": "corner"}


class Painter(PolicyTool):
    """Returns a picture, with a word."""

    prompt = IMAGE_ZOOM_IN

    async def call(self, instance_id: str, arguments: Any, agent_data: Any) -> Answer:
        return ToolResponse(text="Painted:", image=[picture()]), None


def run_loop(
    parser: str, server: ScriptedServer, processor: Qwen3VLProcessor, cache_dir: Path, sees: bool = True, **kwargs: Any
) -> AgentLoopOutput:
    """The question about the picture, answered with what the server writes; without `sees` there is no picture."""
    zoom = {"type": "native", "coord_mode": "relative_1000", "min_pixels": 4096, "max_pixels": 4096}
    tool = ImageZoomIn(zoom) if sees else Painter({"type": "native"})
    image = [{"type": "image", "image": picture()}] if sees else []
    question = [*image, {"type": "text", "text": "Which colour is in the corner?"}]
    messages = [
        {"role": "system", "content": prompts.system_prompt(TOOLS)},
        {"role": "user", "content": question if sees else question[0]["text"]},
    ]

    async def run() -> AgentLoopOutput:
        data_config = OmegaConf.create({"cache_dir": str(cache_dir)})
        loop = LOOPS[parser](
            trainer_config=config(parser),
            server_manager=server,
            tokenizer=processor.tokenizer,
            processor=processor if sees else None,
            dataset_cls=RLHFDataset,
            data_config=DictConfigWrap(data_config),
            hf_model_type="qwen3_vl" if sees else "qwen3",
            tools=ToolListWrap([tool]),
        )
        return await loop.run(sampling_params={}, raw_prompt=messages, **kwargs)

    return asyncio.run(run())


@pytest.mark.parametrize("parser", LOOPS)
def test_a_crop_can_be_zoomed_into(parser: str, processor: Qwen3VLProcessor, tmp_path: Path) -> None:
    turns = [prompts.tool_call(TOOLS[0].name, QUARTER | {"img_idx": index}) for index in (0, 1, 7)]
    server = ScriptedServer(processor.tokenizer, [*turns, prompts.answer("blue")])
    output = run_loop(parser, server, processor, tmp_path)
    assert [len(images) for images in server.shown] == [1, 2, 3, 3]  # the last call got a message
    first, second = output.multi_modal_data["images"][1:]
    # 128 x 128 green with a blue quarter, at half its size: 64 x 64 of which 32 x 32 are blue; then only blue.
    assert first.size == second.size == (64, 64)
    assert (first.getpixel((10, 10)), first.getpixel((50, 50))) == ((0, 255, 0), (0, 0, 255))
    assert second.getpixel((20, 20)) == second.getpixel((60, 60)) == (0, 0, 255)
    text = processor.tokenizer.decode(output.response_ids)
    assert "img_idx 7 does not exist; the conversation has 3 image(s), from 0: use 0 to 2." in text


def test_a_model_of_text_alone_is_told_of_a_tools_picture(processor: Qwen3VLProcessor, tmp_path: Path) -> None:
    """verl's loop raises, so that a policy that draws would lose its rollout."""
    turns = [prompts.tool_call(TOOLS[0].name, QUARTER), prompts.answer("blue")]
    output = run_loop("axpo", ScriptedServer(processor.tokenizer, turns), processor, tmp_path, sees=False)
    assert "Painted:\n[1 picture(s), which you cannot see]" in processor.tokenizer.decode(output.response_ids)
    with pytest.raises(ValueError, match="Multimedia data can only be processed by `processor`"):
        run_loop("hermes", ScriptedServer(processor.tokenizer, turns), processor, tmp_path, sees=False)


@pytest.mark.parametrize("prefix", [0, 5])
def test_a_resamples_prefix_was_not_generated_for_it(prefix: int, processor: Qwen3VLProcessor, tmp_path: Path) -> None:
    server = ScriptedServer(processor.tokenizer, [prompts.tool_call(TOOLS[0].name, QUARTER), prompts.answer("blue")])
    call, answer = server.turns
    given = Prefix(request_id="source", token_ids=tuple(call[:prefix]), logprobs=(-0.5,) * prefix)
    server.turns = [call[prefix:], answer]
    with running_in(LoopContext(prefix=given)):
        output = run_loop("axpo", server, processor, tmp_path)
    assert isinstance(output, Trajectory)
    assert output.response_ids[: len(call)] == call
    assert len(output.response_ids) > len(call) + len(answer)  # the tool's answer is in between
    assert sum(output.response_mask) - output.given == len(call) - prefix + len(answer)
