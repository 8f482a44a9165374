"""`image_zoom_in` as a verl tool: crop a box out of an image of the conversation and magnify it (paper, section 2).

    arguments -> crop.parse_arguments() -> crop.zoom() -> ToolResponse(image=[crop]) -> verl appends it to image_data,
                       images: agent_data.image_data        where the next call reaches it by its img_idx
                       originals: agent_data.messages

verl's dataset hands images over shrunk to some 16 million pixels (qwen_vl_utils); the messages still hold what was in
the data. A crop is taken from there when it can be told which image it is.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from PIL import Image
from verl.tools.base_tool import BaseTool
from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse

from verl_axpo import prompts
from verl_axpo.errors import InfraFailure
from verl_axpo.images import ImageRefused, Source, open_image
from verl_axpo.tools.configs import HOST_KEYS
from verl_axpo.tools.crop import (
    COORD_MODES,
    MAX_PIXELS,
    MIN_PIXELS,
    ZoomError,
    check_limits,
    check_mode,
    checked_index,
    parse_arguments,
    pixel_box,
    zoom,
)

__all__ = ["NAME", "ImageZoomIn", "ZoomError", "parse_arguments", "pixel_box", "zoom"]

NAME = "image_zoom_in"
DEFAULTS = {"coord_mode": COORD_MODES[0], "min_pixels": MIN_PIXELS, "max_pixels": MAX_PIXELS}
MAX_CONCURRENCY = 4  # crops that one process makes at once: each may hold a copy of an 8K picture (130 MB)


class ImageZoomIn(BaseTool):
    """verl tool. Config keys: `coord_mode`, `min_pixels`, `max_pixels`, `max_concurrency` (all optional, see `zoom`).

    Nothing is kept per trajectory, so `create`, `calc_reward` and `release` are verl's. What the policy wrote never
    makes `execute` raise.

    Raises:
        ValueError: a key or a value that makes no sense.
    """

    strict_arguments = True  # see `TrajectoryTool`

    def __init__(self, config: dict[str, Any], tool_schema: OpenAIFunctionToolSchema | None = None) -> None:
        mode = config.get("coord_mode", COORD_MODES[0])
        super().__init__(config, tool_schema or OpenAIFunctionToolSchema.model_validate(prompts.zoom_schema(mode)))
        known = [*DEFAULTS, "max_concurrency", *HOST_KEYS]
        if unknown := sorted(set(config) - set(known)):
            raise ValueError(f"{NAME}: unknown keys {unknown} in the tool's config; choose from {known}")
        self.options: dict[str, Any] = {key: config.get(key, default) for key, default in DEFAULTS.items()}
        check_mode(self.options["coord_mode"])
        check_limits(self.options["min_pixels"], self.options["max_pixels"])
        self._threads = ThreadPoolExecutor(config.get("max_concurrency", MAX_CONCURRENCY), thread_name_prefix=NAME)

    async def execute(
        self, instance_id: str, parameters: dict[str, Any], **kwargs: Any
    ) -> tuple[ToolResponse, float, dict[str, Any]]:
        """Carry out one call.

        Args:
            instance_id: from `create`; unused, the tool has no state.
            parameters: the call's decoded `arguments`, of whatever type the policy wrote.
            kwargs: `agent_data` with `image_data` and `messages`, as `ToolAgentLoop._call_tool` passes it.

        Returns:
            the crop or, for a bad call, a text for the policy; reward 0; `{"ok": bool, "error": str | None}`.

        Raises:
            InfraFailure: the original of an image can no longer be read.
        """
        agent_data = kwargs.get("agent_data")
        images = list(getattr(agent_data, "image_data", None) or [])
        try:
            box, index = parse_arguments(parameters)
            entry = original_of(getattr(agent_data, "messages", None) or [], images, index)
            job = partial(_zoom_into, images, entry, box, img_idx=index, **self.options)
            crop = await asyncio.get_running_loop().run_in_executor(self._threads, job)
        except ZoomError as error:
            text = f"Error: {error}"
            return ToolResponse(text=text), 0.0, {"ok": False, "error": text}
        return ToolResponse(image=[crop]), 0.0, {"ok": True, "error": None}


def original_of(messages: Sequence[Any], images: Sequence[Image.Image], index: int) -> Source | None:
    """Where `images[index]` is at its full resolution, for `open_image`; None: nowhere better.

    verl keeps image entries of messages and `image_data` in one order, tool results included. Where their numbers
    differ, some other loop does not, and nothing is guessed.
    """
    checked_index(index, len(images))
    contents = [message["content"] for message in messages if isinstance(message.get("content"), list)]
    parts = [part for content in contents for part in content if isinstance(part, dict)]
    entries = [part for part in parts if "image" in part or part.get("type") == "image"]
    entry = entries[index] if len(entries) == len(images) else {}
    if entry.get("bytes"):
        return bytes(entry["bytes"])
    source = entry.get("image")
    if isinstance(source, str) and source.startswith(("http:", "https:")):
        return None  # its download is the dataset's affair
    return source if isinstance(source, str | Image.Image) else None


def _zoom_into(
    images: Sequence[Image.Image], source: Source | None, box: Sequence[float], **options: Any
) -> Image.Image:
    try:
        original = None if source is None else open_image(source)
    except ImageRefused as error:
        raise InfraFailure(f"{NAME}: an image of the conversation cannot be read any more: {error!r}") from error
    return zoom(images, box, original=original, **options)
