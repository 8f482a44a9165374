"""One problem as a person wants to see it: the picture, what the model sees of it, and what the right zoom shows.

Problem -> picture | view at the model's resolution | crop of the right cell -> one image, equal panels
"""

from PIL import Image

from examples.tiny_world import model
from examples.tiny_world.families import Problem, perception
from verl_axpo.tools.crop import zoom

PANEL_PX = 512  # side of a panel: a multiple of every source, so that enlarging by whole pixels blurs nothing
GAP_PX = 16


def preview(problem: Problem) -> Image.Image:
    """Three panels side by side for a perception problem."""
    picture = problem.images[0]
    area = perception.CELL_PX**2
    crop = zoom([picture], perception.box_at(problem.numbers), min_pixels=area, max_pixels=area)
    panels = (picture, picture.resize((model.VIEW_PX, model.VIEW_PX), Image.Resampling.BICUBIC), crop)
    sheet = Image.new("RGB", (3 * PANEL_PX + 2 * GAP_PX, PANEL_PX), "white")
    for place, panel in enumerate(panels):
        sheet.paste(panel.resize((PANEL_PX, PANEL_PX), Image.Resampling.NEAREST), (place * (PANEL_PX + GAP_PX), 0))
    return sheet
