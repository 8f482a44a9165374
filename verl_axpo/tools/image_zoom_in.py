"""`image_zoom_in` as a verl tool: crop a box out of an image of the conversation and magnify it (paper, section 2).

    arguments -> crop.parse_arguments() -> crop.zoom() -> ToolResponse(image=[crop]) -> verl appends it to image_data,
                       images: agent_data.image_data        where the next call reaches it by its img_idx
                       originals: agent_data.messages

verl's dataset hands images over shrunk to some 16 million pixels (qwen_vl_utils); the messages still hold what was in
the data. A crop is taken from there when it can be told which image it is.
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any, ClassVar

from PIL import Image
from pydantic import Field, model_validator
from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse

from verl_axpo.errors import InfraFailure
from verl_axpo.images import ImageRefused, Source, open_image
from verl_axpo.prompts import ToolPrompt
from verl_axpo.tools import paper_tools
from verl_axpo.tools.configs import ToolConfig
from verl_axpo.tools.crop import MAX_PIXELS, MIN_PIXELS, CoordMode, checked_index, parse_arguments, zoom
from verl_axpo.tools.policy_tool import Answer, PolicyTool

NAME = paper_tools.IMAGE_ZOOM_IN.name


class ZoomConfig(ToolConfig):
    """Keys of the tool's config.

    Attributes:
        coord_mode: what boxes are counted in, see `crop.pixel_box`.
        min_pixels, max_pixels: area of a returned crop.
        max_concurrency: crops that one process makes at once: each may hold a copy of an 8K picture (130 MB).
    """

    tool: ClassVar[str] = NAME
    coord_mode: CoordMode = "relative_1000"
    min_pixels: Annotated[int, Field(ge=1)] = MIN_PIXELS
    max_pixels: int = MAX_PIXELS
    max_concurrency: Annotated[int, Field(ge=1)] = 4

    @model_validator(mode="after")
    def _check_limits(self) -> "ZoomConfig":
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels = {self.min_pixels} is above max_pixels = {self.max_pixels}")
        return self


class ImageZoomIn(PolicyTool):
    """verl tool. Config keys: see `ZoomConfig`, all optional.

    Nothing is kept per trajectory, so `create`, `calc_reward` and `release` are verl's.

    Raises:
        ValueError: a key or a value that makes no sense.
    """

    def __init__(self, config: dict[str, Any], tool_schema: OpenAIFunctionToolSchema | None = None) -> None:
        settings = ZoomConfig.parse(config)
        super().__init__(config, tool_schema)
        self.options = settings.model_dump(include={"coord_mode", "min_pixels", "max_pixels"})
        self._threads = ThreadPoolExecutor(settings.max_concurrency, thread_name_prefix=NAME)

    @classmethod
    def prompt_of(cls, config: Mapping[str, Any]) -> ToolPrompt:
        """In the coordinates of the model family."""
        pixels = ZoomConfig.parse(config).coord_mode == "pixel"
        return paper_tools.image_zoom_in("pixels of the image as you see it") if pixels else paper_tools.IMAGE_ZOOM_IN

    async def call(self, instance_id: str, arguments: Mapping[str, Any], agent_data: Any) -> Answer:
        """The crop; an `InfraFailure` if the original of an image can no longer be read."""
        images = list(getattr(agent_data, "image_data", None) or [])
        box, index = parse_arguments(arguments)
        entry = original_of(getattr(agent_data, "messages", None) or [], images, index)
        job = partial(_zoom_into, images, entry, box, img_idx=index, **self.options)
        crop = await asyncio.get_running_loop().run_in_executor(self._threads, job)
        return ToolResponse(image=[crop]), None


def original_of(messages: Sequence[Any], images: Sequence[Image.Image], index: int) -> Source | None:
    """Where `images[index]` is at its full resolution, for `open_image`; None: nowhere better.

    verl keeps image entries of messages and `image_data` in one order, tool results included. Where their numbers
    differ, the loop is another, and nothing is guessed.
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
        return None  # the dataset has downloaded it
    return source if isinstance(source, str | Image.Image) else None


def _zoom_into(
    images: Sequence[Image.Image], source: Source | None, box: Sequence[float], **options: Any
) -> Image.Image:
    try:
        original = None if source is None else open_image(source)
    except ImageRefused as error:
        raise InfraFailure(f"{NAME}: an image of the conversation cannot be read any more: {error!r}") from error
    return zoom(images, box, original=original, **options)
