"""`image_zoom_in`: which pixels come back, and what the policy is told when its call makes no sense."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from verl.tools.tool_registry import load_all_tools

from examples.tiny_world.tools import write_tools
from verl_axpo.errors import CallError
from verl_axpo.tools.crop import pixel_box, zoom
from verl_axpo.tools.image_zoom_in import ImageZoomIn
from verl_axpo.tools.paper_tools import IMAGE_ZOOM_IN


def quadrants() -> Image.Image:
    """200 x 100, one colour per quadrant."""
    image = Image.new("RGB", (200, 100))
    for x, y, colour in ((0, 0, "red"), (100, 0, "green"), (0, 50, "blue"), (100, 50, "white")):
        image.paste(colour, (x, y, x + 100, y + 50))
    return image


def call(parameters: Any, images: list[Image.Image] | None, **config: Any) -> tuple[Any, dict[str, Any]]:
    tool = ImageZoomIn({"type": "native", **config})
    response, reward, metrics = asyncio.run(
        tool.execute("id", parameters, agent_data=SimpleNamespace(image_data=images))
    )
    assert reward == 0.0
    return response, metrics


def test_relative_box_is_in_thousandths_of_each_side() -> None:
    # x: 500..1000 of 200 px -> 100..200; y: 0..500 of 100 px -> 0..50.
    assert pixel_box((200, 100), [500, 0, 1000, 500]) == (100, 0, 200, 50)


def test_pixel_box_is_taken_as_it_is() -> None:
    assert pixel_box((200, 100), [100, 0, 200, 50], "pixel") == (100, 0, 200, 50)


def test_crop_inside_the_pixel_bounds_is_returned_pixel_for_pixel() -> None:
    crop = zoom([quadrants()], [500, 0, 1000, 500], min_pixels=5000, max_pixels=5000)
    assert crop.size == (100, 50)
    assert crop.getcolors() == [(5000, (0, 128, 0))]


def test_small_crop_is_magnified_to_the_minimum() -> None:
    # 100 x 50 = 5000 px -> 20000 px: each side doubles.
    assert zoom([quadrants()], [0, 500, 500, 1000], min_pixels=20000, max_pixels=40000).size == (200, 100)


def test_large_crop_is_shrunk_to_the_maximum() -> None:
    # 200 x 100 = 20000 px -> 5000 px: each side halves.
    assert zoom([quadrants()], [0, 0, 1000, 1000], min_pixels=1, max_pixels=5000).size == (100, 50)


def test_index_reaches_earlier_tool_results() -> None:
    images = [quadrants(), Image.new("RGB", (100, 100), "yellow")]
    crop = zoom(images, [0, 0, 1000, 1000], img_idx=1, min_pixels=1, max_pixels=10**6)
    assert crop.getcolors() == [(10000, (255, 255, 0))]


numbers = st.floats(-100, 1100) | st.integers(-100, 1100)


@given(box=st.lists(numbers, min_size=4, max_size=4), low=st.integers(64, 4096), high=st.integers(4096, 65536))
def test_any_box_gives_a_crop_within_bounds_or_a_message(box: list[float], low: int, high: int) -> None:
    try:
        crop = zoom([quadrants()], box, min_pixels=low, max_pixels=high)
    except CallError:
        with pytest.raises(CallError, match="bbox_2d"):
            zoom([quadrants()], box, min_pixels=low, max_pixels=high)
        return
    # Rounding each side moves the area by less than one row and one column.
    slack = crop.width + crop.height + 1
    assert low - slack <= crop.width * crop.height <= high + slack
    assert max(crop.size) / min(crop.size) < 200  # what Qwen's processor accepts


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({}, "bbox_2d must be four numbers"),
        ({"bbox_2d": "0,0,500,500"}, "bbox_2d must be four numbers"),
        ({"bbox_2d": [0, 0, 500]}, "bbox_2d must be four numbers"),
        ({"bbox_2d": [0, 0, True, 500]}, "bbox_2d must be four numbers"),
        ({"bbox_2d": [0, 0, float("nan"), 500]}, "bbox_2d must be four numbers"),
        ({"bbox_2d": [0, 0, 10**400, 500]}, "bbox_2d must be four numbers"),
        ({"bbox_2d": ["<|image_pad|>"]}, "got ['< |image_pad|>']."),
        ({"bbox_2d": "1" * 10_000}, "111..."),
        ({"bbox_2d": [500, 0, 250, 500]}, "reversed: put the left and upper one first"),
        ({"bbox_2d": [0, 500, 250, 100]}, "0 <= x1 < x2 <= 1000 and 0 <= y1 < y2 <= 1000, got [0.0, 500.0, 250.0, 100"),
        ({"bbox_2d": [250, 0, 250, 500]}, "empty: choose a larger one"),
        ({"bbox_2d": [900, 0, 1100, 500]}, "leaves the image: stay inside"),
        ({"bbox_2d": [-1, 0, 500, 500]}, "leaves the image: stay inside"),
        ({"bbox_2d": [0, 0, 1, 1]}, "is only 0 x 0 pixels; choose a larger box"),
        ({"bbox_2d": [0, 0, 15, 1000]}, "is only 3 x 100 pixels"),
        (
            {"bbox_2d": [0, 0, 500, 500], "img_idx": 1},
            "img_idx 1 does not exist; the conversation has 1 image(s), from 0: use 0 to 0.",
        ),
        ({"bbox_2d": [0, 0, 500, 500], "img_idx": -1}, "img_idx -1 does not exist"),
        ({"bbox_2d": [0, 0, 500, 500], "img_idx": "0"}, "img_idx must be a whole number"),
        ([0, 0, 500, 500], "arguments must be a JSON object, got list"),
        (None, "arguments must be a JSON object, got NoneType"),
    ],
)
def test_a_bad_call_is_answered_with_what_is_wrong(parameters: Any, told: str) -> None:
    response, metrics = call(parameters, [quadrants()])
    assert response.image is None
    assert told in response.text
    assert metrics == {"ok": False, "error": response.text}


def test_a_conversation_without_images_is_answered() -> None:
    response, _ = call({"bbox_2d": [0, 0, 500, 500]}, None)
    assert "the conversation has 0 image(s), there is nothing to zoom into; answer without this tool" in response.text


def test_a_good_call_returns_one_image_and_no_text() -> None:
    response, metrics = call({"bbox_2d": [0, 0, 500, 500], "label": "x"}, [quadrants()], min_pixels=1)
    assert (response.text, [image.getcolors() for image in response.image]) == (None, [[(5000, (255, 0, 0))]])
    assert metrics == {"ok": True, "error": None}


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"coord_mode": "percent"}, "got 'percent': Input should be 'relative_1000' or 'pixel'"),
        ({"min_pixels": 9, "max_pixels": 8}, "min_pixels = 9 is above max_pixels = 8"),
        ({"min_pixels": 0}, "min_pixels: got 0: Input should be greater than or equal to 1"),
        ({"coordmode": "pixel"}, "unknown key 'coordmode'.*'coord_mode'"),
    ],
)
def test_a_config_without_sense_is_refused_at_start(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ImageZoomIn({"type": "native", **config})


def test_verl_loads_the_tool_and_dumps_the_schema_that_sft_rows_carry(tmp_path: Path) -> None:
    (tool,) = load_all_tools(str(write_tools(tmp_path, ["image_zoom_in"])), None)
    dumped = tool.tool_schema.model_dump(exclude_unset=True, exclude_none=True)
    # Compared as text: the key order is part of the prompt.
    assert json.dumps([dumped]) == json.dumps([IMAGE_ZOOM_IN.schema])


def test_a_line_is_refused_before_the_processor_would() -> None:
    strip = Image.new("RGB", (1000, 100))
    with pytest.raises(CallError, match=r"is 1000 x 4 pixels, a mere line; .* at most 100 times as long as wide"):
        zoom([strip], [0, 0, 1000, 40])


@pytest.mark.parametrize(
    ("mode", "words"), [("relative_1000", "in thousandths of width and height"), ("pixel", "in pixels of the image")]
)
def test_the_policy_is_told_what_its_boxes_are_counted_in(mode: str, words: str) -> None:
    properties = ImageZoomIn({"coord_mode": mode}).tool_schema.function.parameters.properties
    assert words in properties["bbox_2d"].description
