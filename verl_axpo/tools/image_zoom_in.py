"""`image_zoom_in`: crop a box out of an image of the conversation and magnify it (paper, section 2).

    arguments from the policy -> parse_arguments() -> zoom() -> PIL image -> ToolResponse(image=[...])
                                       |_ ZoomError: a message for the policy, as the tool's response

`zoom` needs nothing but Pillow. `ImageZoomIn` is the same thing as a verl tool: it takes the images from
`agent_data.image_data` (the prompt's images at the resolution the dataset hands over, then earlier tool results).
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from PIL import Image
from verl.tools.base_tool import BaseTool
from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse

from verl_axpo import prompts

NAME = "image_zoom_in"
COORD_MODES = ("relative_1000", "pixel")
MIN_PIXELS = 256 * 256  # area of the returned crop: below this a vision tower sees too few patches to read by
MAX_PIXELS = 1024 * 1024  # area of the returned crop: bounds the image tokens that one call adds
MIN_SIDE_PX = 4  # a thinner box holds nothing that magnifying could show
MAX_ASPECT = 100.0  # Qwen's processor raises above 200; half of it leaves room for its rounding


class ZoomError(ValueError):
    """The call cannot be carried out; the text is written for the policy."""


def parse_arguments(parameters: Any) -> tuple[list[float], int]:
    """Check the types of a call's arguments.

    Returns:
        the box as four finite numbers, and the image index.

    Raises:
        ZoomError: names the argument, what was expected and what came.
    """
    if not isinstance(parameters, Mapping):
        raise ZoomError(f"arguments must be a JSON object, got {type(parameters).__name__}.")
    box, index = parameters.get("bbox_2d"), parameters.get("img_idx", 0)
    if not isinstance(box, list | tuple) or len(box) != 4 or not all(_is_number(value) for value in box):
        raise ZoomError(f"bbox_2d must be four numbers [x1, y1, x2, y2], got {box!r}.")
    if isinstance(index, bool) or not isinstance(index, int):
        raise ZoomError(f"img_idx must be a whole number, got {index!r}.")
    return [float(value) for value in box], index


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def pixel_box(
    size: tuple[int, int], bbox_2d: Sequence[float], coord_mode: str = "relative_1000"
) -> tuple[int, int, int, int]:
    """The box in whole pixels (left, top, right, bottom; right and bottom excluded) of an image of `size` (w, h).

    Raises:
        ZoomError: outside the image, empty, too thin or too elongated.
        ValueError: an unknown `coord_mode`.
    """
    if coord_mode not in COORD_MODES:
        raise ValueError(f"coord_mode: got {coord_mode!r}; choose from {list(COORD_MODES)}")
    limits = (1000.0, 1000.0) if coord_mode == "relative_1000" else (float(size[0]), float(size[1]))
    x1, y1, x2, y2 = bbox_2d
    if not (0 <= x1 < x2 <= limits[0] and 0 <= y1 < y2 <= limits[1]):
        raise ZoomError(
            f"bbox_2d must satisfy 0 <= x1 < x2 <= {limits[0]:g} and 0 <= y1 < y2 <= {limits[1]:g}, "
            f"got {list(bbox_2d)}."
        )
    scale_x, scale_y = size[0] / limits[0], size[1] / limits[1]
    box = (round(x1 * scale_x), round(y1 * scale_y), round(x2 * scale_x), round(y2 * scale_y))
    sides = (box[2] - box[0], box[3] - box[1])
    if min(sides) < MIN_SIDE_PX or max(sides) > MAX_ASPECT * min(sides):
        raise ZoomError(f"bbox_2d {list(bbox_2d)} is only {sides[0]} x {sides[1]} pixels; choose a larger box.")
    return box


def zoom(
    images: Sequence[Image.Image],
    bbox_2d: Sequence[float],
    *,
    img_idx: int = 0,
    coord_mode: str = "relative_1000",
    min_pixels: int = MIN_PIXELS,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """The crop of `images[img_idx]`, scaled so that its area lies in [min_pixels, max_pixels] (pixels).

    A crop whose area is already inside is returned pixel for pixel.

    Raises:
        ZoomError: a box or an index that the policy has to correct.
        ValueError: an unknown `coord_mode` (the configuration's fault, not the policy's).
    """
    if not 0 <= img_idx < len(images):
        raise ZoomError(f"img_idx {img_idx} does not exist; the conversation has {len(images)} image(s), from 0.")
    image = images[img_idx]
    crop = image.crop(pixel_box(image.size, bbox_2d, coord_mode)).convert("RGB")
    area = crop.width * crop.height
    scale = math.sqrt(min(max(area, min_pixels), max_pixels) / area)
    if scale == 1.0:
        return crop
    size = (max(1, round(crop.width * scale)), max(1, round(crop.height * scale)))
    return crop.resize(size, Image.Resampling.BICUBIC)


class ImageZoomIn(BaseTool):
    """verl tool. Config keys: `coord_mode`, `min_pixels`, `max_pixels` (all optional, see `zoom`).

    Stateless, so `create`, `calc_reward` and `release` are verl's. `execute` never raises for what the policy wrote.
    """

    def __init__(self, config: dict[str, Any], tool_schema: OpenAIFunctionToolSchema | None = None) -> None:
        super().__init__(config, tool_schema or OpenAIFunctionToolSchema.model_validate(prompts.tool_schema(NAME)))
        keys = ("coord_mode", "min_pixels", "max_pixels")
        self.options: dict[str, Any] = {key: config[key] for key in keys if key in config}
        if self.options.get("coord_mode", COORD_MODES[0]) not in COORD_MODES:
            raise ValueError(f"coord_mode: got {self.options['coord_mode']!r}; choose from {list(COORD_MODES)}")

    async def execute(
        self, instance_id: str, parameters: dict[str, Any], **kwargs: Any
    ) -> tuple[ToolResponse, float, dict[str, Any]]:
        """Carry out one call.

        Args:
            instance_id: from `create`; unused, the tool has no state.
            parameters: the call's decoded `arguments`, of whatever type the policy wrote.
            kwargs: `agent_data` with `image_data`, as `ToolAgentLoop._call_tool` passes it.

        Returns:
            the crop or, for a bad call, a text for the policy; reward 0; `{"ok": bool, "error": str | None}`.
        """
        images = getattr(kwargs.get("agent_data"), "image_data", None) or []
        try:
            box, index = parse_arguments(parameters)
            crop = await asyncio.to_thread(zoom, images, box, img_idx=index, **self.options)
        except ZoomError as error:
            text = f"Error: {error}"
            return ToolResponse(text=text), 0.0, {"ok": False, "error": text}
        return ToolResponse(image=[crop]), 0.0, {"ok": True, "error": None}
