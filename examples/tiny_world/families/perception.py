"""Perception: which glyph is in column 2, row 3?

A picture of 4 x 4 cells holds six coloured frames, each around a small patch of fine lines. The model sees the picture
at half its resolution, where every patch averages to the same grey: that there is a glyph can be seen, which one
cannot. `image_zoom_in` on the right cell returns it at full resolution.

    cells, colours, glyphs -> picture + question -> guess        -> right one time in three
                                                 -> zoom, read   -> right if the box was right
    The glyph asked for appears in no other frame, so that the crop of a wrong cell always misleads.

The teacher names the cell's corner, and often zooms in at another.
"""

import random

import numpy as np
from PIL import Image, ImageDraw

from examples.tiny_world.families import Call, Pair, Problem, a_hint, look_alikes

NAME = "perception"
TOOL = "image_zoom_in"
ANSWERS = GLYPHS = ("lines", "bars", "checks")
DECIDES, OBSERVES = "I zoom in at", "I see"

GRID = 4  # cells per side; one cell is one image token of the full view
CELL_PX = 64  # side of a cell in the picture, twice its side in the model's view
STEP = 1000 // GRID  # side of a cell in the tool's relative coordinates
LOOK_ALIKE = look_alikes(range(0, 1000, STEP), 2)  # of the corner's coordinates
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
    hint = a_hint(answer, ANSWERS, rng)
    return Problem(
        question=f"<image>In {place(cells[0])}, which glyph do you see: {', '.join(GLYPHS)}? Hint: {hint}.",
        images=(draw(frames),),
        answer=answer,
        hint=hint,
        numbers=corner(cells[0]),
        facts={"cell": cells[0], "glyphs": dict(zip(cells, glyphs, strict=True))},
    )


def place(cell: int) -> str:
    """The cell in words, columns and rows counted from 1."""
    return f"column {cell % GRID + 1}, row {cell // GRID + 1}"


def corner(cell: int) -> Pair:
    """The cell's upper left corner, 0-1000 relative."""
    return cell % GRID * STEP, cell // GRID * STEP


def box_at(corner: Pair) -> list[int]:
    """The cell with this corner as `bbox_2d`."""
    x, y = corner
    return [x, y, x + STEP, y + STEP]


def think(problem: Problem) -> str:
    """The place and its corner, named."""
    x, y = problem.numbers
    return f"It is in {place(problem.facts['cell'])}, at {x}, {y}. It is too small to read."


def call(problem: Problem, numbers: Pair) -> Call:
    """Zoom on the cell with this corner."""
    from verl_axpo.tools.crop import zoom

    crop = zoom(problem.images, box_at(numbers), min_pixels=CELL_PX**2, max_pixels=CELL_PX**2)
    shown = problem.facts["glyphs"].get(numbers[0] // STEP + numbers[1] // STEP * GRID, NOTHING)
    return Call(
        arguments={"bbox_2d": box_at(numbers), "label": "glyph"}, response="<image>", shown=shown, images=(crop,)
    )
