"""The tools of one trajectory, carried out by verl's own code.

    ParsedCall -> verl's ToolAgentLoop._call_tool -> TrajectoryTool -> Response for the policy + ToolCall for the record

The words that answer an unknown tool or a failing one, and the cut of a long text, are thus those of training.
"""

import asyncio
import contextlib
import io
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from PIL import Image
from verl.experimental.agent_loop.tool_agent_loop import AgentData, ToolAgentLoop
from verl.tools.base_tool import BaseTool
from verl.tools.schemas import ToolResponse
from verl.tools.tool_registry import initialize_tools_from_config

from verl_axpo.agent.types import Limits, Response
from verl_axpo.errors import InfraFailure
from verl_axpo.images import ImageRefused, open_image
from verl_axpo.integration.agent_loop import BadCall, call_record, disarmed, function_call
from verl_axpo.integration.trajectory_tool import TrajectoryTool
from verl_axpo.tools.configs import config_path
from verl_axpo.tools.parser import ParsedCall
from verl_axpo.trace.records import ToolCall

DECODED_IMAGES = 16  # kept for the other rollouts of their questions


class Toolbox:
    """The tools of one trajectory, which live until `close`, and the conversation's images that they see.

    Args:
        tools: shared by all trajectories.
        images: the question's, encoded; they are decoded when the first tool is called, for an image may take 100 MB
            and many trajectories call none. `add_images` appends what tools returned.
    """

    # verl's method, unbound: it reads the three attributes below and nothing else (tests/contract)
    _carry_out = ToolAgentLoop._call_tool

    def __init__(self, tools: Sequence[BaseTool], images: Sequence[bytes], limits: Limits) -> None:
        self.tools = {tool.name: TrajectoryTool(tool) for tool in tools}
        self.max_tool_response_length = limits.tool_response_chars
        self.tool_response_truncate_side = limits.truncate_side
        self._undecoded, self._decoding = list(images), asyncio.Lock()
        self._agent_data = AgentData(
            messages=[],
            image_data=[],
            video_data=None,
            audio_data=None,
            mm_processor_kwargs=None,
            metrics={},
            request_id=uuid4().hex,
            tools_kwargs={},
        )

    async def call(self, parsed: ParsedCall) -> tuple[Response, ToolCall]:
        """Carry out one call; whatever goes wrong is in the record, and what the policy may know in the response.

        Raises:
            InfraFailure: an image of the question cannot be read.
        """
        await self._decode()
        started = time.monotonic()
        wanted = function_call(parsed)
        if isinstance(wanted, BadCall):
            answer, metrics = ToolResponse(text=wanted.problem), {"ok": False}
        else:
            answer, _, metrics = await self._carry_out(wanted, {}, self._agent_data)
        answer = disarmed(answer)
        record = call_record(wanted, answer, metrics, time.monotonic() - started)
        return Response(text=answer.text or "", images=tuple(answer.image or ())), record

    def add_images(self, images: Sequence[Image.Image]) -> None:
        """What the tools of a turn returned, for the calls of the next."""
        self._agent_data.image_data.extend(images)

    async def _decode(self) -> None:
        async with self._decoding:
            waiting, self._undecoded = self._undecoded, []
            self._agent_data.image_data.extend([await asyncio.to_thread(decode, image) for image in waiting])

    async def close(self) -> None:
        """Release every tool that was used."""
        await asyncio.gather(*(tool.close() for tool in self.tools.values()))


@lru_cache(maxsize=DECODED_IMAGES)
def decode(data: bytes) -> Image.Image:
    """The picture as tools see it: RGB, at its own size; shared by the rollouts of a question, so not to be changed.

    Raises:
        InfraFailure: the file is damaged.
    """
    try:
        return open_image(data)
    except ImageRefused as error:
        raise InfraFailure(f"an image of the question cannot be read: {error}") from error


def load_tools(config: str | Path) -> list[BaseTool]:
    """The tools of a config, see `config_path`.

    Raises:
        ValueError: no such config.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # verl prints the schema of every tool it makes
        tools: list[BaseTool] = initialize_tools_from_config(str(config_path(config)))
    return tools


def schema_of(tool: BaseTool) -> dict[str, Any]:
    """A tool's schema as verl's loop hands it to the chat template."""
    schema: dict[str, Any] = tool.tool_schema.model_dump(exclude_unset=True, exclude_none=True)
    return schema
