"""A verl tool with the life of its trajectory: created at the first call, released when the trajectory ends.

verl's loop creates and releases a tool around every call, so a stateful tool would forget everything in between. It
also waits for a tool as long as the tool likes: here a call has a limit of its own, whatever the tool does inside. And
it hands over whatever the policy wrote: arguments that the schema of a tool with `strict_arguments` (all of ours) does
not allow are answered without it. Other tools get what they get under GRPO.
"""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from verl.tools.base_tool import BaseTool
from verl.tools.schemas import ToolResponse

from verl_axpo.errors import InfraFailure
from verl_axpo.images import ImageRefused, open_image
from verl_axpo.tools.arguments import problem_with
from verl_axpo.tools.configs import LIMIT_KEY

logger = logging.getLogger(__name__)

MAX_ASPECT = 200  # Qwen's processor raises above it
CALL_LIMIT_S = 300.0  # above what the tools allow themselves: only a tool that is stuck reaches it


class TrajectoryTool:
    """Stands in for `tool` in one trajectory of verl's `ToolAgentLoop`, which calls create, execute and release.

    `execute` returns `ok`, `infra` and `error` in its metrics, whatever the tool itself reports there.
    """

    def __init__(self, tool: BaseTool) -> None:
        self.tool = tool
        self.name: str = tool.name
        self.tool_schema = tool.tool_schema
        # A tool whose calls may rightly wait longer, in a queue of its own, says so in `longest_call_s`
        self.limit_s = float(tool.config.get(LIMIT_KEY, getattr(tool, "longest_call_s", CALL_LIMIT_S)))
        strict = getattr(tool, "strict_arguments", False)
        self.parameters = tool.tool_schema.function.parameters.model_dump(exclude_none=True) if strict else None
        self._instance: str | None = None
        self._creating = asyncio.Lock()

    async def create(self, instance_id: str | None = None, **kwargs: Any) -> tuple[str, ToolResponse]:
        """The trajectory's instance; made by the first call."""
        async with self._creating:
            if self._instance is None:
                self._instance, _ = await self.tool.create(instance_id, **kwargs)
        return self._instance, ToolResponse()

    async def execute(
        self, instance_id: str, parameters: dict[str, Any], **kwargs: Any
    ) -> tuple[ToolResponse, float | None, dict[str, Any]]:
        """The tool's own result, or what is wrong with the arguments. An `InfraFailure` becomes a flag; any other
        exception is verl's to turn into text.

        A call that takes longer than `limit_s` seconds is cancelled, and an infrastructure failure.
        """
        if self.parameters is not None and (problem := problem_with(parameters, self.parameters)) is not None:
            text = f"Error: {problem}"
            return ToolResponse(text=text), 0.0, {"ok": False, "infra": False, "error": text}
        try:
            response, reward, metrics = await self._limited(self.tool.execute(instance_id, parameters, **kwargs))
            response = _shown(response)
        except (InfraFailure, ImageRefused) as failure:
            logger.warning("tool %s: infrastructure failure: %s", self.name, failure)
            text = f"{self.name} is unavailable."
            return ToolResponse(text=text), 0.0, {"ok": False, "infra": True, "error": str(failure)}
        return response, reward, {"ok": True, "infra": False, "error": None, **(metrics or {})}

    async def _limited(self, call: Awaitable[tuple[ToolResponse, float | None, dict[str, Any]]]) -> Any:
        task = asyncio.ensure_future(call)
        try:
            # Not wait_for: a TimeoutError out of the tool itself would look like ours
            done, _ = await asyncio.wait({task}, timeout=self.limit_s)
            if not done:
                raise InfraFailure(f"no answer within {self.limit_s:g} s ({LIMIT_KEY})")
            return task.result()
        finally:
            task.cancel()

    async def release(self, instance_id: str, **kwargs: Any) -> None:
        """Nothing: the trajectory goes on. `close` releases."""

    async def close(self) -> None:
        """Release the instance, if one was made."""
        instance, self._instance = self._instance, None
        if instance is not None:
            await self.tool.release(instance)


def _shown(response: ToolResponse) -> ToolResponse:
    """The response with pictures that rollout engine and trainer cannot see in two ways: opaque RGB.

    A mere line, on which the model's processor would raise, is told in words: the policy may have asked for it.

    Raises:
        ImageRefused: the tool returned what cannot be shown.
    """
    if not response.image:
        return response
    images = response.image if isinstance(response.image, list) else [response.image]
    opened = [open_image(image) for image in images if image is not None]
    lines = [image for image in opened if max(image.size) > MAX_ASPECT * min(image.size)]
    words = [f"[a picture of {line.width} x {line.height} pixels, a mere line, is not shown]" for line in lines]
    text = "\n".join([*filter(None, [response.text]), *words])
    shown = [image for image in opened if image not in lines]
    return response.model_copy(update={"image": shown or None, "text": text or None})
