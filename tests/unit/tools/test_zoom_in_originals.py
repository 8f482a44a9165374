"""`image_zoom_in` and the image's original: where a crop comes from, and what one of an 8K picture costs."""

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from verl_axpo.errors import InfraFailure
from verl_axpo.tools.image_zoom_in import ImageZoomIn


def quadrants() -> Image.Image:
    """200 x 100, one colour per quadrant."""
    image = Image.new("RGB", (200, 100))
    for x, y, colour in ((0, 0, "red"), (100, 0, "green"), (0, 50, "blue"), (100, 50, "white")):
        image.paste(colour, (x, y, x + 100, y + 50))
    return image


class Conversation:
    """`agent_data` as verl's loop keeps it: what the dataset handed over, and messages with what was in the data."""

    def __init__(self, image_data: list[Image.Image], *originals: Any) -> None:
        self.image_data = image_data
        parts = [{"type": "image", "image": picture} for picture in originals]
        self.messages = [
            {"role": "system", "content": "no parts"},
            {"role": "user", "content": [*parts[:1], {"type": "text", "text": "?"}]},
            {"role": "tool", "content": parts[1:]},
        ]


def crop_of(conversation: Conversation, box: list[float], index: int = 0, **config: Any) -> Image.Image:
    tool = ImageZoomIn({"type": "native", "min_pixels": 1, "max_pixels": 10**8, **config})
    arguments = {"bbox_2d": box, "label": "x", "img_idx": index}
    response, _, _ = asyncio.run(tool.execute("id", arguments, agent_data=conversation))
    assert response.image is not None, response.text
    return response.image[0]


def test_a_crop_comes_from_the_original_not_from_what_the_dataset_shrank() -> None:
    shrunk = quadrants().resize((100, 50))
    crop = crop_of(Conversation([shrunk], quadrants()), [500, 0, 1000, 500])
    assert (crop.size, crop.getcolors()) == ((100, 50), [(5000, (0, 128, 0))])


def test_pixels_are_those_of_the_image_in_the_conversation() -> None:
    # 50..100 of 100 px across, 0..25 of 50 px down: the upper right quarter, 100 x 50 in the original
    shrunk = quadrants().resize((100, 50))
    crop = crop_of(Conversation([shrunk], quadrants()), [50, 0, 100, 25], coord_mode="pixel")
    assert (crop.size, crop.getcolors()) == ((100, 50), [(5000, (0, 128, 0))])


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_an_original_may_be_a_file(prefix: str, tmp_path: Path) -> None:
    quadrants().save(tmp_path / "picture.png")
    conversation = Conversation([quadrants().resize((100, 50))], f"{prefix}{tmp_path}/picture.png")
    assert crop_of(conversation, [0, 0, 500, 500]).getcolors() == [(5000, (255, 0, 0))]
    (tmp_path / "picture.png").unlink()
    with pytest.raises(InfraFailure, match="cannot be read any more"):
        crop_of(conversation, [0, 0, 500, 500])


@pytest.mark.parametrize("originals", [(), (quadrants(), quadrants()), ("https://example.org/a.png",), (b"png",)])
def test_when_the_original_cannot_be_told_the_conversations_image_is_cropped(originals: tuple[Any, ...]) -> None:
    crop = crop_of(Conversation([Image.new("RGB", (40, 40), "yellow")], *originals), [0, 0, 500, 500])
    assert crop.getcolors() == [(400, (255, 255, 0))]


def test_transparency_looks_as_it_does_to_the_model() -> None:
    clear = Image.new("RGBA", (40, 40), (255, 0, 0, 0))  # red, and not to be seen
    assert crop_of(Conversation([clear.convert("RGB")], clear), [0, 0, 500, 500]).getcolors() == [
        (400, (255, 255, 255))
    ]


EIGHT_K = """
import re, sys, time
from pathlib import Path
from PIL import Image
from verl_axpo.tools.crop import zoom
def peak():  # kilobytes; not ru_maxrss, which a process inherits from the one that started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
picture = Image.new(sys.argv[1], (7680, 4320), "white")
zoom([Image.new("RGB", (64, 64))], [0, 0, 1000, 1000])  # what is loaded once
before, started = peak(), time.process_time()
crop = zoom([picture], [float(one) for one in sys.argv[2:]])
print(peak() - before, time.process_time() - started, *crop.size)
"""


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "L"])
def test_a_small_box_of_an_8k_picture_costs_what_the_box_costs(mode: str) -> None:
    # 768 x 432 of 7680 x 4320: 1.3 MB at 4 bytes a pixel. A converted copy of the picture would be 133 MB.
    kilobytes, seconds, width, height = eight_k(mode, 450, 450, 550, 550)
    assert (width, height) == (768, 432)
    assert kilobytes < 40_000
    assert seconds < 2


def test_the_whole_of_an_8k_picture_costs_one_copy() -> None:
    # 133 MB for the crop, 24 MB for what is scaled in one direction; 16:9 in 1024 * 1024 pixels is 1365 x 768
    kilobytes, seconds, width, height = eight_k("RGB", 0, 0, 1000, 1000)
    assert (width, height) == (1365, 768)
    assert kilobytes < 220_000
    assert seconds < 10


def eight_k(mode: str, *box: float) -> list[float]:
    command = [sys.executable, "-c", EIGHT_K, mode, *map(str, box)]
    return [float(word) for word in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


def test_it_works_where_verl_is_not_imported() -> None:
    code = "import sys, verl_axpo.tools.crop; print({'verl', 'torch', 'ray'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout == b"set()\n"


async def test_no_more_crops_at_once_than_configured() -> None:
    tool = ImageZoomIn({"type": "native", "max_concurrency": 2})
    running, most, lock = 0, 0, threading.Lock()

    class Slow(Image.Image):
        def crop(self, box: Any = None) -> Image.Image:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.05)
            with lock:
                running -= 1
            return quadrants()

    picture = Slow()
    picture.__dict__.update(quadrants().__dict__)
    arguments = {"bbox_2d": [0, 0, 500, 500], "label": "x"}
    await asyncio.gather(*(tool.execute("id", arguments, agent_data=Conversation([picture])) for _ in range(8)))
    assert most == 2
