"""The tables as pictures: accuracy and tool use by benchmark with their intervals, and what is behind them.

Evaluation, summary() -> bars(), lengths() -> Figure -> DIR/plots/*.png
                      -> multiples.py      -|
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # before pyplot: no display where evaluations run

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from verl_axpo.eval.report import multiples
from verl_axpo.eval.report.breakdown import breakdown
from verl_axpo.eval.report.results import Evaluation, all_rows
from verl_axpo.eval.report.stats import Estimate
from verl_axpo.eval.report.tables import measure_words
from verl_axpo.report.plots import DOTS_PER_INCH, SIZE_INCHES

BAR_WIDTH = 0.4  # of the distance between two benchmarks
BINS = 40

Numbers = Mapping[str, Mapping[str, Estimate]]
Words = tuple[str, str]  # title, caption


def draw_all(evaluation: Evaluation, numbers: Numbers, folder: Path) -> dict[str, Words]:
    """Draw into `folder`: name of each plot made -> its title and caption."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, Words] = {}
    for name, (figure, title, caption) in _figures(evaluation, numbers):
        figure.savefig(folder / f"{name}.png", dpi=DOTS_PER_INCH, bbox_inches="tight")
        plt.close(figure)
        drawn[name] = title, caption
    return drawn


def _figures(evaluation: Evaluation, numbers: Numbers) -> Iterator[tuple[str, tuple[Figure, str, str]]]:
    """One at a time, so that one is in memory; what there is nothing to draw of is left out."""
    words = measure_words(evaluation.rollouts)
    for name, measures, title in (
        ("accuracy", ("pass_1", "pass_k"), f"{words['pass_1']} and {words['pass_k']}"),
        ("tool_use", ("tool_use",), "Share of rollouts with a tool call"),
    ):
        caption = f"{title}, with 95 % bootstrap intervals over questions."
        yield name, (bars(evaluation, numbers, measures, title), title, caption)
    found = {result.column: breakdown(result) for result in evaluation.results}
    ended = "How many rollouts ended in which status; an infra failure counts in no other plot."
    yield "statuses", (multiples.statuses(found), "How rollouts ended", ended)
    if not any(row.usable for row in all_rows(evaluation)):
        return
    told = "Rollouts with a tool call and without one, by outcome."
    yield "outcomes", (multiples.outcomes(found), "Tool use and outcome", told)
    if any(one["tools"] for one in found.values()):
        told = "Of each tool: the share of rollouts that call it, and the share of its calls that fail."
        yield "tools", (multiples.tools(found), "Tools", told)
    told = "Tokens after the prompt, tool responses included, by outcome."
    yield "lengths", (lengths(evaluation), "Response length", told)
    yield "turns", (multiples.turns(found), "Turns", "How many rollouts took how many turns.")


def bars(evaluation: Evaluation, numbers: Numbers, measures: Sequence[str], title: str) -> Figure:
    """One bar per benchmark and measure, with its interval."""
    figure: Figure
    figure, axes = plt.subplots(figsize=SIZE_INCHES)
    words = measure_words(evaluation.rollouts)
    names = [result.name for result in evaluation.results]
    for at, measure in enumerate(measures):
        some = [numbers[measure][name] for name in names]
        values = np.array([one.value for one in some])
        reach = np.abs(np.array([[one.value - one.low, one.high - one.value] for one in some]).T)
        places = np.arange(len(names)) + (at - (len(measures) - 1) / 2) * BAR_WIDTH
        axes.bar(places, values, BAR_WIDTH, yerr=reach, capsize=2, label=words[measure], color=f"C{at}")
    axes.set_xticks(range(len(names)), [result.column for result in evaluation.results], rotation=30, ha="right")
    axes.set_ylim(0, 1.02)
    _finish(axes, title)
    return figure


def lengths(evaluation: Evaluation) -> Figure:
    """How many rollouts are how long, by outcome."""
    figure: Figure
    figure, axes = plt.subplots(figsize=SIZE_INCHES)
    rows = [row for row in all_rows(evaluation) if row.usable]
    outcomes = {"correct": True, "wrong": False, "unscored": None}
    tokens = [[row.response_tokens for row in rows if row.correct is outcome] for outcome in outcomes.values()]
    kept = [(name, some) for name, some in zip(outcomes, tokens, strict=True) if some]
    axes.hist([some for _, some in kept], bins=BINS, stacked=True, label=[name for name, _ in kept])
    axes.set_xlabel("tokens")
    axes.set_ylabel("rollouts")
    _finish(axes, "Response length")
    return figure


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
