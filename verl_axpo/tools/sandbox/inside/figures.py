"""Images that a cell makes: figures and pictures -> RGB within bounds -> raw bytes for the reply.

    plt.show(), figures left open, Image.show(), display(), last expression -> Gallery -> (sizes, bytes), notes

Neither matplotlib nor Pillow is imported unless something else did: a cell without images pays nothing.
"""

import io
import sys
from collections.abc import Mapping
from typing import Any

from . import frames
from .pixels import to_rgb


class Gallery:
    """The images of one cell.

    Args:
        limits: `images` per cell, `image_pixels` per image (a larger one is shrunk to that).
    """

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.limits = limits
        self.sizes: list[tuple[int, int]] = []
        self.data: list[bytes] = []
        self.notes: list[str] = []

    def add(self, value: Any) -> bool:
        """Take `value` if it is a picture or a figure; False if it is something else."""
        figure = _figure_of(value)
        if figure is not None:
            self._add_figure(figure)
        elif _is_image(value):
            self._add_image(value)
        else:
            return False
        return True

    def add_open_figures(self) -> None:
        """Take every open figure of pyplot and close it, as a notebook does."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is None:
            return
        figures = [pyplot.figure(number) for number in pyplot.get_fignums()]
        try:
            for figure in figures:
                self._add_figure(figure)
        finally:
            pyplot.close("all")

    def _add_figure(self, figure: Any) -> None:
        from PIL import Image

        if self._is_full():
            return
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", bbox_inches="tight")
        with Image.open(buffer) as image:
            self._add_image(image)
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None:
            pyplot.close(figure)  # else it would come back at the end of the cell

    def _add_image(self, image: Any) -> None:
        if self._is_full():
            return
        if not 0 < max(image.size) <= frames.MAX_ASPECT * min(image.size):
            self._note(f"[an image of {image.width} x {image.height} pixels left out: empty or too elongated]")
            return
        try:
            image = to_rgb(image)
        except ValueError as error:
            self._note(f"[an image of {image.width} x {image.height} pixels left out: {error}]")
            return
        pixels = image.width * image.height
        if pixels > self.limits["image_pixels"]:
            scale = (self.limits["image_pixels"] / pixels) ** 0.5
            size = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
            self._note(f"[an image of {image.width} x {image.height} pixels is shown at {size[0]} x {size[1]}]")
            image = image.resize(size)
        self.sizes.append(image.size)
        self.data.append(image.tobytes())

    def _is_full(self) -> bool:
        full = len(self.data) >= self.limits["images"]
        if full:
            self._note(f"[only the first {self.limits['images']} images are shown]")
        return full

    def _note(self, text: str) -> None:
        if text not in self.notes and len(self.notes) < frames.MAX_NOTES:
            self.notes.append(text)


def _figure_of(value: Any) -> Any:
    """The matplotlib figure that `value` is; None otherwise."""
    module = sys.modules.get("matplotlib.figure")
    return value if module is not None and isinstance(value, module.Figure) else None


def _is_image(value: Any) -> bool:
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def to_image(blob: memoryview, width: int, height: int) -> Any:
    """A picture from raw RGB."""
    from PIL import Image

    return Image.frombytes("RGB", (width, height), blob)


def show_through(gallery: "list[Gallery]") -> None:
    """Make `plt.show()` and `Image.show()` hand their images to `gallery[0]`, the current cell's."""
    pyplot, images = sys.modules.get("matplotlib.pyplot"), sys.modules.get("PIL.Image")
    if pyplot is not None:
        vars(pyplot)["show"] = lambda *args, **kwargs: gallery[0].add_open_figures()
    if images is not None:
        images.Image.show = lambda self, *args, **kwargs: gallery[0]._add_image(self)
