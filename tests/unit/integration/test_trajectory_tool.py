"""A tool in a trajectory: one instance for all its calls, a limit outside the tool, and text without chat markers."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from verl.experimental.agent_loop.tool_parser import FunctionCall
from verl.tools.base_tool import BaseTool
from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse

from verl_axpo.errors import InfraFailure
from verl_axpo.integration.agent_loop import AxpoToolAgentLoop, BadCall
from verl_axpo.integration.trajectory_tool import TrajectoryTool
from verl_axpo.tools.search.tool import TavilySearch

SCHEMA = OpenAIFunctionToolSchema.model_validate({"type": "function", "function": {"name": "t", "description": "."}})


class Tool(BaseTool):
    """Does what `act` does; keeps what happened to it."""

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


async def test_a_stuck_call_is_cancelled_and_nobodys_answer() -> None:
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
    (tmp_path / "a.txt").write_text("a")
    config = {"documents": str(tmp_path), "cache_dir": str(tmp_path / "cache"), "call_limit_s": 7}
    assert TrajectoryTool(TavilySearch(config)).limit_s == 7.0


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
