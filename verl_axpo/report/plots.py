"""Curves -> PNG files: one line per arm, a band from the lowest to the highest seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # before pyplot: no display on a training machine

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from verl_axpo.report.curves import by_arm, curve, scatter
from verl_axpo.report.runs import Run

SIZE_INCHES = (6.4, 3.8)
DOTS_PER_INCH = 130
MOST_POINTS = 4000  # of a scatter: more only make the file larger

SCATTER_TITLE = "Confidence and entropy of the first tool call"
SOLID, DASHED = "-", "--"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A figure of the report: each metric has a line style and a word for the legend; the first one there is drawn of
    metrics that share a style."""

    name: str
    title: str
    caption: str
    metrics: tuple[tuple[str, str, str], ...]  # metric, line style, word
    rate: bool = True  # on an axis from 0 to 1


PLOTS = (
    Plot(
        name="tool_use_rate",
        title="Tool-use rate",
        caption="Share of the ordinary rollouts with at least one tool call.",
        metrics=(("axpo/tool_use_rate", SOLID, ""),),
    ),
    Plot(
        name="all_wrong",
        title="All-wrong rate of tool-using subgroups",
        caption="Share of the questions with a tool-using rollout where all of these are wrong: before resampling "
        "(dashed) and after it (solid).",
        metrics=(
            ("axpo/tool_all_wrong_rate", DASHED, "before"),
            ("axpo/tool_all_wrong_rate_after", SOLID, "after"),
        ),
    ),
    Plot(
        name="restore_rate",
        title="Restore rate",
        caption="Share of the resampled all-wrong subgroups in which a continuation is correct; a step without a "
        "resample has no point.",
        metrics=(("axpo/restore_rate", SOLID, ""),),
    ),
    Plot(
        name="reward",
        title="Reward",
        caption="Mean reward of the ordinary rollouts.",
        metrics=(("critic/score/mean", SOLID, ""), ("critic/rewards/mean", SOLID, "")),
        rate=False,
    ),
    Plot(
        name="pass_at",
        title="Pass@1 and Pass@N on the training questions",
        caption="Pass@1 (solid) and Pass@N (dashed) of the ordinary rollouts.",
        metrics=(("axpo/pass@1", SOLID, "Pass@1"), ("axpo/pass@N", DASHED, "Pass@N")),
    ),
)


def draw_all(runs: Sequence[Run], folder: Path) -> dict[str, tuple[str, str]]:
    """Draw what the runs have measured into `folder`: name of each plot made -> its title and caption."""
    folder.mkdir(parents=True, exist_ok=True)
    words = {plot.name: (plot.title, plot.caption) for plot in PLOTS if _draw(plot, runs, folder / f"{plot.name}.png")}
    correlation = _draw_scatter(runs, folder / "confidence_entropy.png")
    return words | ({"confidence_entropy": (SCATTER_TITLE, correlation)} if correlation else {})


def _draw(plot: Plot, runs: Sequence[Run], path: Path) -> bool:
    figure, axes = plt.subplots(figsize=SIZE_INCHES)
    drawn = [
        _draw_arm(axes, plot, arm, some, colour=f"C{index}") for index, (arm, some) in enumerate(by_arm(runs).items())
    ]
    if any(drawn):
        _finish(axes, plot.title, "step")
        if plot.rate:
            axes.set_ylim(-0.02, 1.02)
        figure.savefig(path, dpi=DOTS_PER_INCH, bbox_inches="tight")
    plt.close(figure)
    return any(drawn)


def _draw_arm(axes: Axes, plot: Plot, arm: str, runs: Sequence[Run], colour: str) -> bool:
    styles: set[str] = set()
    for metric, style, word in plot.metrics:
        line = curve(arm, runs, metric)
        if line is None or style in styles:
            continue
        styles.add(style)
        end = f", to step {line.steps[-1]:.0f}, where one ends" if line.ends_early else ""
        label = " ".join(filter(None, (arm, word, f"({line.seeds} seeds{end})" if line.seeds > 1 else "")))
        marker = "o" if len(line.steps) < 3 else None  # a line of one point would be invisible
        axes.plot(line.steps, line.mean, style, color=colour, label=label, marker=marker)
        if line.seeds > 1:
            axes.fill_between(line.steps, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
    return bool(styles)


def _draw_scatter(runs: Sequence[Run], path: Path) -> str:
    """Confidence against entropy, and its caption; "" where entropy was not measured."""
    figure, axes = plt.subplots(figsize=SIZE_INCHES)
    words = []
    for index, (arm, some) in enumerate(by_arm(runs).items()):
        cloud = scatter(arm, some)
        if cloud is None:
            continue
        every = max(1, len(cloud.entropy) // MOST_POINTS)
        axes.scatter(cloud.confidence[::every], cloud.entropy[::every], s=6, alpha=0.4, color=f"C{index}", label=arm)
        words.append(
            f"{arm}: Pearson {cloud.pearson:.3f}, Spearman {cloud.spearman:.3f} over {len(cloud.entropy)} tool calls."
        )
    if words:
        _finish(axes, SCATTER_TITLE, "confidence (mean probability)")
        axes.set_ylabel("entropy (nats)")
        figure.savefig(path, dpi=DOTS_PER_INCH, bbox_inches="tight")
    plt.close(figure)
    explained = "Each point is a tool call; correlations are of negated confidence with entropy (paper: 0.843, 0.835). "
    return explained + " ".join(words) if words else ""


def _finish(axes: Axes, title: str, x_label: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.grid(alpha=0.25)
    if x_label == "step":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
