"""The tables as pictures: accuracy and tool use by benchmark with their intervals, and how long rollouts are."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # before pyplot: no display where evaluations run

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

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
    words = measure_words(evaluation.rollouts)
    bars = {
        "accuracy": (("pass_1", "pass_k"), f"{words['pass_1']} and {words['pass_k']}"),
        "tool_use": (("tool_use",), "Share of rollouts with a tool call"),
    }
    drawn: dict[str, Words] = {}
    for name, (measures, title) in bars.items():
        _draw_bars(evaluation, numbers, measures, words, title, folder / f"{name}.png")
        drawn[name] = title, f"{title}, with 95 % bootstrap intervals over questions."
    if any(row.usable for row in all_rows(evaluation)):
        _draw_lengths(evaluation, folder / "lengths.png")
        drawn["lengths"] = "Response length", "Tokens after the prompt, tool responses included, by outcome."
    return drawn


def _draw_bars(
    evaluation: Evaluation,
    numbers: Numbers,
    measures: Sequence[str],
    words: Mapping[str, str],
    title: str,
    path: Path,
) -> None:
    figure, axes = plt.subplots(figsize=SIZE_INCHES)
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
    figure.savefig(path, dpi=DOTS_PER_INCH, bbox_inches="tight")
    plt.close(figure)


def _draw_lengths(evaluation: Evaluation, path: Path) -> None:
    figure, axes = plt.subplots(figsize=SIZE_INCHES)
    rows = [row for row in all_rows(evaluation) if row.usable]
    outcomes = {"correct": True, "wrong": False, "unscored": None}
    lengths = [[row.response_tokens for row in rows if row.correct is outcome] for outcome in outcomes.values()]
    kept = [(name, some) for name, some in zip(outcomes, lengths, strict=True) if some]
    axes.hist([some for _, some in kept], bins=BINS, stacked=True, label=[name for name, _ in kept])
    axes.set_xlabel("tokens")
    axes.set_ylabel("rollouts")
    _finish(axes, "Response length")
    figure.savefig(path, dpi=DOTS_PER_INCH, bbox_inches="tight")
    plt.close(figure)


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
