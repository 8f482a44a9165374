"""Images that a cell makes: figures and pictures -> RGB within bounds -> raw bytes for the reply.

    plt.show(), figures left open, Image.show(), display(), last expression -> Gallery -> (sizes, bytes), notes

Neither matplotlib nor Pillow is imported unless something else did: a cell without images pays nothing.
"""

import io
import sys
from collections.abc import Mapping
from typing import Any

from . import frames
from .pixels import shrunk, to_rgb


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
        if _is_a(value, "matplotlib.figure", "Figure"):
            self._add_figure(value)
        elif _is_a(value, "PIL.Image", "Image"):
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
        what = f"an image of {image.width} x {image.height} pixels"
        try:
            if not 0 < max(image.size) <= frames.MAX_ASPECT * min(image.size):
                raise ValueError("empty or too elongated")
            shown = shrunk(to_rgb(image), self.limits["image_pixels"])
        except ValueError as error:
            self._note(f"[{what} left out: {error}]")
            return
        if shown.size != image.size:
            self._note(f"[{what} is shown at {shown.width} x {shown.height}]")
        self.sizes.append(shown.size)
        self.data.append(shown.tobytes())

    def _is_full(self) -> bool:
        full = len(self.data) >= self.limits["images"]
        if full:
            self._note(f"[only the first {self.limits['images']} images are shown]")
        return full

    def _note(self, text: str) -> None:
        if text not in self.notes and len(self.notes) < frames.MAX_NOTES:
            self.notes.append(text)


def _is_a(value: Any, module: str, name: str) -> bool:
    """Whether `value` is of a class whose module something has imported."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name))


def show_through(gallery: "list[Gallery]") -> None:
    """Make `plt.show()` and `Image.show()` hand their images to `gallery[0]`, the current cell's."""
    pyplot, images = sys.modules.get("matplotlib.pyplot"), sys.modules.get("PIL.Image")
    if pyplot is not None:
        vars(pyplot)["show"] = lambda *args, **kwargs: gallery[0].add_open_figures()
    if images is not None:
        images.Image.show = lambda self, *args, **kwargs: gallery[0]._add_image(self)
