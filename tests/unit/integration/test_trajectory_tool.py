"""A tool in a trajectory: one instance for all its calls, a limit outside the tool, and text without chat markers."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from verl.experimental.agent_loop.tool_parser import FunctionCall
from verl.tools.base_tool import BaseTool
from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse

from examples.image_search import ImageSearch
from verl_axpo.errors import InfraFailure
from verl_axpo.integration.agent_loop import AxpoToolAgentLoop, BadCall
from verl_axpo.integration.trajectory_tool import TrajectoryTool
from verl_axpo.tools.arguments import problem_with
from verl_axpo.tools.image_zoom_in import ImageZoomIn
from verl_axpo.tools.paper_tools import TAVILY_SEARCH
from verl_axpo.tools.python import Python
from verl_axpo.tools.sandbox import SandboxConfig
from verl_axpo.tools.search.tool import TavilySearch

SCHEMA = OpenAIFunctionToolSchema.model_validate({"type": "function", "function": {"name": "t", "description": "."}})


class Tool(BaseTool):
    """A tool that runs `act`, and records what happened to it."""

    def __init__(self, act: Any, **config: Any) -> None:
        super().__init__(config, SCHEMA)
        self.act = act
        self.events: list[str] = []

    async def create(self, instance_id: str | None = None, **kwargs: Any) -> tuple[str, ToolResponse]:
        self.events.append("create")
        return await super().create("instance", **kwargs)

    async def execute(self, instance_id: str, parameters: dict[str, Any], **kwargs: Any) -> Any:
        try:
            return ToolResponse(text=await self.act()), 0.0, {}
        except asyncio.CancelledError:
            self.events.append("cancelled")
            raise

    async def release(self, instance_id: str, **kwargs: Any) -> None:
        self.events.append("release")


async def hang() -> str:
    await asyncio.sleep(60)
    return "too late"


async def test_a_stuck_call_is_cancelled_and_an_infra_failure() -> None:
    tool = Tool(hang, call_limit_s=0.05)
    response, _, metrics = await TrajectoryTool(tool).execute("id", {})
    assert response.text == "t is unavailable."
    assert metrics == {"ok": False, "infra": True, "error": "no answer within 0.05 s (call_limit_s)"}
    await asyncio.sleep(0)  # the cancellation arrives
    assert tool.events == ["cancelled"]


async def test_a_trajectory_that_is_cancelled_cancels_the_call() -> None:
    tool = Tool(hang)
    call = asyncio.create_task(TrajectoryTool(tool).execute("id", {}))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(0)
    assert tool.events == ["cancelled"]


async def test_a_time_out_inside_the_tool_is_not_the_limit() -> None:
    async def times_out() -> str:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):  # verl turns it into text
        await TrajectoryTool(Tool(times_out)).execute("id", {})


class Painter(Tool):
    """Returns the given pictures."""

    async def execute(self, instance_id: str, parameters: dict[str, Any], **kwargs: Any) -> Any:
        return ToolResponse(image=await self.act()), 0.0, {}


async def test_a_tools_transparent_picture_joins_the_conversation_on_white() -> None:
    async def paint() -> list[Image.Image]:
        return [Image.new("RGBA", (8, 8), (0, 0, 0, 0)), Image.new("RGB", (8, 8), "red")]

    response, _, metrics = await TrajectoryTool(Painter(paint)).execute("id", {})
    assert [(image.mode, image.getpixel((0, 0))) for image in response.image or []] == [
        ("RGB", (255, 255, 255)),
        ("RGB", (255, 0, 0)),
    ]
    assert metrics["ok"]


async def test_a_mere_line_is_told_in_words() -> None:
    """The model's processor raises on it, outside of what verl catches: the whole rollout would be lost."""

    async def paint() -> list[Image.Image]:
        return [Image.new("RGB", (900, 2)), Image.new("RGB", (1500, 10)), Image.new("RGB", (2, 900))]

    response, _, metrics = await TrajectoryTool(Painter(paint)).execute("id", {})
    assert [image.size for image in response.image or []] == [(1500, 10)]
    assert response.text is not None
    assert response.text.splitlines() == [
        "[a picture of 900 x 2 pixels, a mere line, is not shown]",
        "[a picture of 2 x 900 pixels, a mere line, is not shown]",
    ]
    assert metrics["ok"]


async def test_a_tools_picture_that_cannot_be_shown_is_an_infra_failure() -> None:
    async def paint() -> list[Image.Image]:
        return [Image.new("F", (8, 8), 0.5)]

    response, _, metrics = await TrajectoryTool(Painter(paint)).execute("id", {})
    assert (response.image, metrics["infra"]) == (None, True)
    assert "mode F" in metrics["error"]


async def test_one_instance_for_all_calls_released_at_the_end() -> None:
    async def answer() -> str:
        return "fine"

    tool = Tool(answer)
    stand_in = TrajectoryTool(tool)
    for _ in range(2):
        instance, _ = await stand_in.create()
        _, _, metrics = await stand_in.execute(instance, {})
        await stand_in.release(instance)
    await stand_in.close()
    assert metrics == {"ok": True, "infra": False, "error": None}
    assert tool.events == ["create", "release"]


async def test_a_failing_service_is_flagged() -> None:
    async def fails() -> str:
        raise InfraFailure("down")

    _, _, metrics = await TrajectoryTool(Tool(fails)).execute("id", {})
    assert metrics == {"ok": False, "infra": True, "error": "down"}


def test_our_tools_take_the_limit_in_their_config(tmp_path: Any) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "url": "a.png"}')
    documents = {"documents": str(tmp_path), "cache_dir": str(tmp_path / "cache")}
    tools = [(TavilySearch, documents), (ImageSearch, documents), (ImageZoomIn, {}), (Python, {})]
    for tool, config in tools:
        assert TrajectoryTool(tool({"type": "native", **config, "call_limit_s": 7})).limit_s == 7.0, tool


def test_a_python_call_that_waits_in_its_queue_is_not_given_up() -> None:
    config = SandboxConfig()
    for limit_s in (TrajectoryTool(Python({})).limit_s, TrajectoryTool(Python({"queue_timeout_s": 900.0})).limit_s):
        assert limit_s > 2 * config.queue_timeout_s + config.start_timeout_s + config.max_timeout_s
    assert TrajectoryTool(Python({"queue_timeout_s": 900.0})).limit_s > 2 * 900.0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([1], "arguments must be a JSON object, got list"),
        ({"label": "a"}, "bbox_2d is missing"),
        ({}, "bbox_2d and label are missing"),
        ({"bbox_2d": "1 2 3 4", "label": "a"}, "bbox_2d must be of type array, got '1 2 3 4'"),
        ({"bbox_2d": [0, 0, 1, 1], "label": 3}, "label must be of type string, got 3"),
        ({"bbox_2d": [0, 0, 1, 1], "label": "a", "img_idx": "<|im_end|>"}, "got '< |im_end|>'"),
    ],
)
async def test_arguments_that_the_schema_does_not_allow_never_reach_the_tool(arguments: Any, text: str) -> None:
    response, _, metrics = await TrajectoryTool(ImageZoomIn({})).execute("id", arguments)
    assert response.text.startswith("Error: ")
    assert text in response.text
    assert "; write bbox_2d (array), label (string), img_idx (integer, optional)." in response.text
    assert metrics == {"ok": False, "infra": False, "error": response.text}


async def test_a_tool_that_does_not_ask_for_it_gets_whatever_the_policy_wrote() -> None:
    """As under GRPO: verl lets a schema say `type: float`, and tools may mend what they are given."""

    async def act() -> str:
        return "done"

    response, _, metrics = await TrajectoryTool(Tool(act)).execute("id", ["anything"])
    assert (response.text, metrics["ok"]) == ("done", True)


@pytest.mark.parametrize(
    "arguments", [{"query": "a"}, {"query": "a", "max_results": 3}, {"query": "a", "max_results": None, "more": 1}]
)
def test_arguments_that_fit(arguments: dict[str, Any]) -> None:
    assert problem_with(arguments, TAVILY_SEARCH.schema["function"]["parameters"]) is None


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (FunctionCall(name="t", arguments="{}"), "read < |im_end|> here"),
        (
            FunctionCall(name="<|image_pad|>", arguments="{}"),
            "Unknown function '< |image_pad|>'. Available tools: ['t']",
        ),
        (BadCall(name="", arguments="{}", problem="not JSON: <|image_pad|>"), "not JSON: < |image_pad|>"),
    ],
)
async def test_no_response_carries_a_chat_marker(call: FunctionCall, text: str) -> None:
    async def read() -> str:
        return "read <|im_end|> here"

    loop = AxpoToolAgentLoop.__new__(AxpoToolAgentLoop)
    loop.tools, loop.max_tool_response_length, loop.calls = {}, 1000, []
    data = SimpleNamespace(_active_tools={"t": TrajectoryTool(Tool(read))})
    response, _, _ = await loop._call_tool(call, {}, data)
    assert response.text == text
