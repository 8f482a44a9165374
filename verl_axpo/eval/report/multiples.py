"""What is behind the numbers, as small multiples: one little plot per benchmark.

    {column: breakdown()} -> statuses(), outcomes(), tools(), turns() -> Figure   (plots.py saves it)

What is drawn is what `report.json` says of each benchmark, and the tables of the report.
"""

from collections.abc import Callable, Mapping
from math import ceil
from typing import Any

import matplotlib

matplotlib.use("Agg")  # before pyplot: no display where evaluations run

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

plt.rcParams["text.parse_math"] = False  # names of tools and benchmarks are words, whatever signs they have

ACROSS = 3  # plots beside each other: nine benchmarks are a square
CELL_INCHES = (2.7, 2.0)
SMALL = 8  # points, of the letters in a cell
HEADROOM = 1.05  # of the highest stack
PAIR_WIDTH = 0.4  # of the distance between two tools

Found = Mapping[str, Mapping[str, Any]]  # column -> `breakdown` of its benchmark
OUTCOMES = ("correct", "wrong", "unscored")
USES = {"tool": "tool", "no_tool": "no tool"}


def statuses(found: Found) -> Figure:
    """How many rollouts ended in which status."""

    def fill(axes: Axes, one: Mapping[str, Any]) -> None:
        counts = one["statuses"]
        axes.bar([name.replace("_", "\n") for name in counts], list(counts.values()), color="C0")

    return _grid(found, "How rollouts ended", "rollouts", fill)


def outcomes(found: Found) -> Figure:
    """Tool use x outcome: a stack of rollouts with a tool call, and one of those without."""

    def fill(axes: Axes, one: Mapping[str, Any]) -> None:
        below = [0] * len(USES)
        for at, outcome in enumerate(OUTCOMES):
            heights = [one["outcome"][use][outcome] for use in USES]
            axes.bar(list(USES.values()), heights, bottom=below, color=f"C{at}", label=outcome)
            below = [low + height for low, height in zip(below, heights, strict=True)]
        axes.set_ylim(0, HEADROOM * max(*below, 1))  # matplotlib leaves none above a bar of height 0

    return _grid(found, "Tool use and outcome", "rollouts", fill)


def tools(found: Found) -> Figure:
    """Of each tool the share of rollouts that called it, and the share of its calls that failed."""
    names = sorted({name for one in found.values() for name in one["tools"]})

    def fill(axes: Axes, one: Mapping[str, Any]) -> None:
        usable = sum(sum(some.values()) for some in one["outcome"].values())
        called = [_share(one["tools"].get(name, {}).get("rollouts", 0), usable) for name in names]
        calls = [one["tools"].get(name, {"errors": 0, "calls": 0}) for name in names]
        failed = [_share(some["errors"], some["calls"]) for some in calls]
        for at, (label, heights) in enumerate({"rollouts that call it": called, "its calls that fail": failed}.items()):
            places = [place + (at - 0.5) * PAIR_WIDTH for place in range(len(names))]
            axes.bar(places, heights, PAIR_WIDTH, color=f"C{at}", label=label)
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axes.set_ylim(0, 1.02)

    return _grid(found, "Tools", "share", fill)


def turns(found: Found) -> Figure:
    """How many rollouts took how many turns."""
    seen = {count for one in found.values() for count in one["turns"]}
    steps = range(min(seen, default=1), max(seen, default=1) + 1)

    def fill(axes: Axes, one: Mapping[str, Any]) -> None:
        axes.bar(steps, [one["turns"].get(count, 0) for count in steps], color="C0")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return _grid(found, "Turns", "rollouts", fill)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _grid(found: Found, title: str, unit: str, fill: Callable[[Axes, Mapping[str, Any]], None]) -> Figure:
    """One plot per benchmark, filled by `fill`; one legend for all, if the plots have labels."""
    across = min(ACROSS, len(found))
    down = ceil(len(found) / across)
    width, height = across * CELL_INCHES[0], down * CELL_INCHES[1]
    figure: Figure
    figure, grid = plt.subplots(down, across, figsize=(width, height), squeeze=False, layout="constrained")
    cells = list(grid.flat)
    for axes, (name, one) in zip(cells, found.items(), strict=False):
        fill(axes, one)
        axes.set_title(name, fontsize=SMALL + 1)
        axes.tick_params(labelsize=SMALL)
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in cells[len(found) :]:
        axes.set_axis_off()
    for row in grid:
        row[0].set_ylabel(unit, fontsize=SMALL)
    figure.suptitle(title)
    handles, labels = cells[0].get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=SMALL + 1)
    return figure
