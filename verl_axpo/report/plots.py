"""Drawing: numbers -> matplotlib -> `Figure` (SVG).

lines()      one line per arm over the steps, a band from the lowest to the highest seed     trainings
scatter()    confidence against entropy                                                     trainings
bars()       measures by benchmark with their intervals                                     evaluations
lengths()    a histogram by outcome                                                         evaluations
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")  # before pyplot: no display on a training machine

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from verl_axpo.report.build import Figure
from verl_axpo.report.stats import Estimate

plt.rcParams["text.parse_math"] = False  # names of tools and benchmarks are words, whatever signs they have
plt.rcParams["svg.hashsalt"] = "verl_axpo"  # the same plot is the same file

SIZE_INCHES = (6.4, 3.8)
DOTS_PER_INCH = 130  # of the parts that are no vectors
MOST_POINTS = 4000  # of a scatter: more only make the file larger
BAR_WIDTH = 0.4  # of the distance between two benchmarks
BINS = 40


def saved(figure: Any, name: str, caption: str = "") -> Figure:
    """The figure as SVG; it is closed, or a long-lived process would keep it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", dpi=DOTS_PER_INCH, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return Figure(name=name, title=figure.axes[0].get_title(), content=buffer.getvalue(), caption=caption)


def lines(curves: Mapping[str, Sequence[tuple[str, str, pd.DataFrame]]], title: str, *, rate: bool) -> Any:
    """One colour per arm.

    Args:
        curves: arm -> (line style, label, frame) of its lines; a frame has mean, low and high by step.
        rate: whether the axis is from 0 to 1.
    """
    figure, axes = plt.subplots(figsize=SIZE_INCHES)
    for index, drawn in enumerate(curves.values()):
        for style, label, frame in drawn:
            marker = "o" if len(frame) < 3 else None  # a line of one point would be invisible
            axes.plot(frame.index, frame["mean"], style, color=f"C{index}", label=label, marker=marker)
            if not frame["low"].equals(frame["high"]):
                axes.fill_between(frame.index, frame["low"], frame["high"], color=f"C{index}", alpha=0.15, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if rate:
        axes.set_ylim(-0.02, 1.02)
    _finish(axes, title, "step")
    return figure


def scatter(clouds: Mapping[str, pd.DataFrame]) -> Any:
    """Arm -> confidence (mean probability) and entropy (nats) of its tool calls."""
    figure, axes = plt.subplots(figsize=SIZE_INCHES)
    for index, (arm, cloud) in enumerate(clouds.items()):
        shown = cloud.iloc[:: max(1, len(cloud) // MOST_POINTS)]
        style: dict[str, Any] = {"s": 6, "alpha": 0.4, "color": f"C{index}", "rasterized": True}
        axes.scatter(shown["confidence"], shown["entropy"], label=arm, **style)
    axes.set_ylabel("entropy (nats)")
    _finish(axes, "Confidence and entropy of the first tool call", "confidence (mean probability)")
    return figure


def bars(measured: Mapping[str, Sequence[Estimate]], names: Sequence[str]) -> Any:
    """One bar per benchmark and measure, with its interval.

    Args:
        measured: the measure in words -> its number for each of `names`.
    """
    figure, axes = plt.subplots(figsize=SIZE_INCHES)
    for at, (words, estimates) in enumerate(measured.items()):
        values = np.array([estimate.value for estimate in estimates])
        reach = np.abs([[number.value - number.low, number.high - number.value] for number in estimates]).T
        places = np.arange(len(names)) + (at - (len(measured) - 1) / 2) * BAR_WIDTH
        axes.bar(places, values, BAR_WIDTH, yerr=reach, capsize=2, label=words, color=f"C{at}")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_ylim(0, 1.02)
    _finish(axes, " and ".join(measured))
    return figure


def lengths(tokens: Mapping[str, Sequence[int]]) -> Any:
    """How many rollouts are how long, by outcome."""
    figure, axes = plt.subplots(figsize=SIZE_INCHES)
    drawn = {outcome: counts for outcome, counts in tokens.items() if counts}
    axes.hist(list(drawn.values()), bins=BINS, stacked=True, label=list(drawn))
    axes.set_ylabel("rollouts")
    _finish(axes, "Response length", "tokens")
    return figure


def _finish(axes: Axes, title: str, x_label: str = "") -> None:
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
