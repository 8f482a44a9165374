"""Perception: which glyph is in column 2, row 3?

A picture of 4 x 4 cells holds six coloured frames, each around a small patch of fine lines. The model sees the picture
at half its resolution, where every patch averages to the same grey: that there is a glyph can be seen, which one
cannot. `image_zoom_in` on the right cell returns it at full resolution.

    cells, colours, glyphs -> picture + question -> guess        -> right one time in three
                                                 -> zoom, read   -> right if the box was right
    The glyph asked for appears in no other frame, so that the crop of a wrong cell always misleads.

The teacher names the cell and often misreads its column or row.
"""

import random
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from examples.tiny_world.families import Call, Problem

NAME = "perception"
TOOL = "image_zoom_in"
ANSWERS = GLYPHS = ("lines", "bars", "checks")
DECIDES, OBSERVES = "I zoom in.", "I see"

GRID = 4  # cells per side; one cell is one image token of the full view
CELL_PX = 64  # side of a cell in the picture, twice its side in the model's view
STEP = 1000 // GRID  # side of a cell in the tool's relative coordinates
FRAME_PX = 4  # thickness of a frame
MARGIN_PX = 2  # between the frame and the cell's edge
FRAMES = 6  # frames in a picture
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (230, 210, 40),
    "purple": (150, 50, 180),
    "cyan": (40, 190, 210),
}
NOTHING = "nothing"  # the teacher's answer to an empty crop; never the right one
BACKGROUND = (240, 240, 240)
GREY = 128  # mean of every glyph, so that the half-size view cannot tell them apart
AMPLITUDE = 100  # of the lines around that mean, in grey levels


def _glyph(name: str, side: int) -> Image.Image:
    """Lines of one pixel around GREY, fading out at the edge, where averaging would otherwise leave a trace."""
    y, x = np.mgrid[0:side, 0:side]
    sign = {"lines": (-1.0) ** y, "bars": (-1.0) ** x, "checks": (-1.0) ** (x + y)}[name]
    ramp = np.minimum(1.0, (0.5 + np.minimum(np.arange(side), np.arange(side)[::-1])) / 6)
    pixels = GREY + AMPLITUDE * sign * ramp[:, None] * ramp[None, :]
    return Image.fromarray(pixels.round().astype(np.uint8)).convert("RGB")


_INNER_PX = CELL_PX - 2 * (MARGIN_PX + FRAME_PX)
_GLYPH_IMAGES = {name: _glyph(name, _INNER_PX) for name in GLYPHS}


def draw(frames: dict[int, tuple[str, str]]) -> Image.Image:
    """The picture of `{cell: (colour, glyph)}`; cells are numbered row by row from 0."""
    picture = Image.new("RGB", (GRID * CELL_PX, GRID * CELL_PX), BACKGROUND)
    pen = ImageDraw.Draw(picture)
    for cell, (colour, glyph) in frames.items():
        left, top = cell % GRID * CELL_PX + MARGIN_PX, cell // GRID * CELL_PX + MARGIN_PX
        side = CELL_PX - 2 * MARGIN_PX - 1
        pen.rectangle((left, top, left + side, top + side), fill=COLOURS[colour])
        picture.paste(_GLYPH_IMAGES[glyph], (left + FRAME_PX, top + FRAME_PX))
    return picture


def make_problem(rng: random.Random, held_out: bool = False) -> Problem:
    """A picture and a question about one of its frames; no two pictures are alike, so none is held out."""
    cells = rng.sample(range(GRID * GRID), FRAMES)
    colours = rng.sample(sorted(COLOURS), FRAMES)
    answer = rng.choice(GLYPHS)
    others = [glyph for glyph in GLYPHS if glyph != answer]
    glyphs = [answer] + [rng.choice(others) for _ in range(FRAMES - 1)]
    frames = {cell: (colour, glyph) for cell, colour, glyph in zip(cells, colours, glyphs, strict=True)}
    facts: dict[str, Any] = {"cell": cells[0], "glyphs": dict(zip(cells, glyphs, strict=True))}
    question = f"<image>In {place(cells[0])}, which glyph do you see: {', '.join(GLYPHS)}?"
    return Problem(question=question, images=(draw(frames),), answer=answer, facts=facts)


def place(cell: int) -> str:
    """The cell in words, columns and rows counted from 1."""
    return f"column {cell % GRID + 1}, row {cell // GRID + 1}"


def box_of(cell: int) -> list[int]:
    """The cell as `bbox_2d`, 0-1000 relative."""
    x, y = cell % GRID * STEP, cell // GRID * STEP
    return [x, y, x + STEP, y + STEP]


def think(problem: Problem) -> str:
    """The place, named."""
    return f"It is in {place(problem.facts['cell'])}. It is too small to read."


def call(problem: Problem, right: bool, rng: random.Random) -> Call:
    """Zoom on the cell or, column or row read wrong, on one next to, above or below it."""
    from verl_axpo.tools.crop import zoom

    cell = problem.facts["cell"]
    misread = [
        other for other in range(GRID * GRID) if (other % GRID == cell % GRID) != (other // GRID == cell // GRID)
    ]
    aimed = cell if right else rng.choice(misread)
    box = box_of(aimed)
    crop = zoom(problem.images, box, min_pixels=CELL_PX**2, max_pixels=CELL_PX**2)
    shown = problem.facts["glyphs"].get(aimed, NOTHING)
    return Call(arguments={"bbox_2d": box, "label": "glyph"}, response="<image>", shown=shown, images=(crop,))
