"""The study's first picture: rows -> Pass@1 and Pass@k after training, a dot per seed; tool use over training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from verl_axpo.report.build import Figure
from verl_axpo.report.compare import measure_words
from verl_axpo.report.curves import curve
from verl_axpo.report.plots import saved
from verl_axpo.report.study import ARMS, MAIN, SFT, StudyRun

COLORS = {SFT: "0.45", "grpo": "C0", "grpo_n10": "C2", "grpo_2x": "C4", MAIN: "C1"}  # the arms with five seeds
SIZE_INCHES = (12.0, 3.4)
REACH, ABOVE = 0.32, 0.36  # of a mean's line from its row, and of its number; rows are 1 apart


def comparison(studies: Sequence[StudyRun]) -> Figure:
    """The arms of `COLORS` that have a row: held-out Pass@1 and Pass@k, and the tool-use rate of every step."""
    of = {arm: [study for study in studies if study.run.arm == arm] for arm in COLORS}
    shown = {arm: group for arm, group in of.items() if group}
    figure, (first, second, third) = plt.subplots(1, 3, figsize=SIZE_INCHES, width_ratios=(1, 1, 1.2))
    words = measure_words(min(study.run.heldout["after"].rollouts for study in studies))
    for axes, measure in ((first, "pass_1"), (second, "pass_k")):
        _held_out(axes, shown, measure)
        axes.set_title(f"Held-out {words[measure]} after training, %")
    second.tick_params(labelleft=False)
    _tool_use(third, shown)
    figure.tight_layout()
    return saved(figure, "comparison")


def _held_out(axes: Axes, shown: Mapping[str, Sequence[StudyRun]], measure: str) -> None:
    """A row per arm: a dot for each seed, a line at their mean."""
    for at, (arm, group) in enumerate(shown.items()):
        shares = [100 * study.run.heldout["after"].estimate(measure).value for study in group]
        axes.scatter(shares, [at] * len(shares), color=COLORS[arm], alpha=0.6, s=28)
        axes.plot([np.mean(shares)] * 2, [at - REACH, at + REACH], color=COLORS[arm], linewidth=2.5)
        axes.annotate(f"{np.mean(shares):.1f}", (float(np.mean(shares)), at - ABOVE), ha="center", fontsize=9)
    most = max(map(len, shown.values()))
    fewer = {arm: f"\n({len(group)} of {most} seeds)" if len(group) < most else "" for arm, group in shown.items()}
    axes.set_yticks(range(len(shown)), [ARMS[arm][0].removeprefix("SFT + ") + fewer[arm] for arm in shown])
    axes.set_ylim(len(shown) - 0.4, -0.8)
    axes.margins(x=0.12)
    _plain(axes)


def _tool_use(axes: Axes, shown: Mapping[str, Sequence[StudyRun]]) -> None:
    """Per trained arm the mean of the seeds, and a band from the lowest to the highest."""
    for arm, group in shown.items():
        frame = curve([study.run for study in group], "axpo/tool_use_rate")
        if frame is not None:
            style: dict[str, Any] = {"color": COLORS[arm]}
            axes.plot(frame.index, 100 * frame["mean"], label=ARMS[arm][0].removeprefix("SFT + "), **style)
            axes.fill_between(frame.index, 100 * frame["low"], 100 * frame["high"], alpha=0.15, linewidth=0, **style)
    axes.set_title("Rollouts that call a tool, %")
    axes.set_xlabel("step")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
