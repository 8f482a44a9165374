"""Crop a box out of an image of the conversation and magnify it: `image_zoom_in` without verl. Needs Pillow only.

    arguments from the policy -> parse_arguments() -> zoom() -> RGB image
                                       |                |_ pixel_box(): the box in pixels of the original
                                       |_ CallError: a message for the policy

An image has two sizes: the one in which the conversation holds it (what the dataset handed over, perhaps already
shrunk for the model) and that of its original. Boxes speak of the first, crops are taken from the second.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from PIL import Image

from verl_axpo.errors import CallError
from verl_axpo.images import load, upright
from verl_axpo.tools.sandbox.inside.pixels import to_rgb
from verl_axpo.tools.text import finite, quoted

CoordMode = Literal["relative_1000", "pixel"]
MIN_PIXELS = 256 * 256  # area of the returned crop: below this a vision tower sees too few patches to read by
MAX_PIXELS = 1024 * 1024  # area of the returned crop: bounds the image tokens that one call adds
MIN_SIDE_PX = 4  # a thinner box holds nothing that magnifying could show
MAX_ASPECT = 100.0  # Qwen's processor raises above 200; half of it leaves room for its rounding


def parse_arguments(arguments: Mapping[str, Any]) -> tuple[list[float], int]:
    """Check the types of a call's arguments. `label` is for whoever reads the trace: nothing depends on it.

    Returns:
        the box as four finite numbers, and the image index.

    Raises:
        CallError: see there.
    """
    box, index = arguments.get("bbox_2d"), arguments.get("img_idx", 0)
    numbers = [finite(value) for value in box] if isinstance(box, list | tuple) else []
    sides = [number for number in numbers if number is not None]
    if len(numbers) != 4 or len(sides) != 4:
        raise CallError(f"bbox_2d must be four numbers [x1, y1, x2, y2], got {quoted(box)}.")
    if isinstance(index, bool) or not isinstance(index, int):
        raise CallError(f"img_idx must be a whole number, got {quoted(index)}.")
    return sides, index


def pixel_box(
    size: tuple[int, int],
    bbox_2d: Sequence[float],
    coord_mode: CoordMode = "relative_1000",
    shown: tuple[int, int] | None = None,
) -> tuple[int, int, int, int]:
    """The box in whole pixels of an image (left, top, right, bottom; right and bottom excluded).

    Args:
        size: (width, height) of the image that is cropped.
        bbox_2d: in thousandths of width and height, or in pixels of `shown`, as `coord_mode` says.
        shown: (width, height) in which the conversation holds the image; None: `size`.

    Raises:
        CallError: reversed, outside the image, empty, too thin or too elongated.
    """
    limits = (1000, 1000) if coord_mode == "relative_1000" else (shown or size)
    x1, y1, x2, y2 = _ordered(bbox_2d, limits)
    scale_x, scale_y = size[0] / limits[0], size[1] / limits[1]
    box = (round(x1 * scale_x), round(y1 * scale_y), round(x2 * scale_x), round(y2 * scale_y))
    sides = (box[2] - box[0], box[3] - box[1])
    if min(sides) < MIN_SIDE_PX:
        raise CallError(f"bbox_2d {list(bbox_2d)} is only {sides[0]} x {sides[1]} pixels; choose a larger box.")
    if max(sides) > MAX_ASPECT * min(sides):
        what = f"bbox_2d {list(bbox_2d)} is {sides[0]} x {sides[1]} pixels, a mere line"
        raise CallError(f"{what}; choose a larger box, at most {MAX_ASPECT:g} times as long as wide.")
    return box


def _ordered(bbox_2d: Sequence[float], limits: tuple[int, int]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = bbox_2d
    if 0 <= x1 < x2 <= limits[0] and 0 <= y1 < y2 <= limits[1]:
        return x1, y1, x2, y2
    if x1 > x2 or y1 > y2:
        advice = "the corners are reversed: put the left and upper one first"
    elif x1 == x2 or y1 == y2:
        advice = "the box is empty: choose a larger one"
    else:
        advice = "the box leaves the image: stay inside"
    raise CallError(
        f"bbox_2d must satisfy 0 <= x1 < x2 <= {limits[0]} and 0 <= y1 < y2 <= {limits[1]}, got {list(bbox_2d)}; "
        f"{advice}."
    )


def zoom(
    images: Sequence[Image.Image],
    bbox_2d: Sequence[float],
    *,
    img_idx: int = 0,
    coord_mode: CoordMode = "relative_1000",
    min_pixels: int = MIN_PIXELS,
    max_pixels: int = MAX_PIXELS,
    original: Image.Image | None = None,
) -> Image.Image:
    """The crop of `images[img_idx]`, scaled so that its area lies in [min_pixels, max_pixels] (pixels).

    A crop whose area is already inside is returned pixel for pixel. Only the crop is copied, converted and scaled,
    never the whole image. `original`: that image at its full resolution, to crop from instead.

    Raises:
        CallError: a box or an index that the policy has to correct.
    """
    image = images[checked_index(img_idx, len(images))]
    source = image if original is None else original
    load(source)
    source = upright(source)
    crop = to_rgb(source.crop(pixel_box(source.size, bbox_2d, coord_mode, shown=image.size)))
    area = crop.width * crop.height
    scale = math.sqrt(min(max(area, min_pixels), max_pixels) / area)
    if scale == 1.0:
        return crop
    size = (max(1, round(crop.width * scale)), max(1, round(crop.height * scale)))
    return crop.resize(size, Image.Resampling.BICUBIC)


def checked_index(img_idx: int, number: int) -> int:
    """`img_idx`, if the conversation has it.

    Raises:
        CallError: it has not.
    """
    if number == 0:
        raise CallError("the conversation has 0 image(s), there is nothing to zoom into; answer without this tool.")
    if not 0 <= img_idx < number:
        what = f"img_idx {quoted(img_idx)} does not exist; the conversation has {number} image(s), from 0"
        raise CallError(f"{what}: use 0 to {number - 1}.")
    return img_idx
