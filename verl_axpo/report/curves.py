"""The curves of a training: metrics by step -> mean and spread of the seeds, a line per arm -> `Figure`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from verl_axpo.report import plots
from verl_axpo.report.build import Figure
from verl_axpo.report.runs import Run, by_arm
from verl_axpo.report.traced import CALLS, Traced

STEPS_PER_WINDOW = 20  # a curve is smoothed over 1/20 of its steps: short runs are shown as they are
# Plots: name -> title, and for each line its style, its word for the legend, the metrics that it may show (the first
# that is there)
CURVES: dict[str, tuple[str, dict[tuple[str, str], tuple[str, ...]]]] = {
    "tool_use_rate": ("Tool-use rate", {("-", ""): ("axpo/tool_use_rate",)}),
    "all_wrong": (
        "All-wrong rate of tool-using subgroups",
        {("--", "before"): ("axpo/tool_all_wrong_rate",), ("-", "after"): ("axpo/tool_all_wrong_rate_after",)},
    ),
    "restore_rate": ("Restore rate", {("-", ""): ("axpo/restore_rate",)}),
    "reward": ("Reward", {("-", ""): ("critic/score/mean", "critic/rewards/mean")}),
    "pass_at": (
        "Pass@1 and Pass@N on the training questions",
        {("-", "Pass@1"): ("axpo/pass@1",), ("--", "Pass@N"): ("axpo/pass@N",)},
    ),
}


def curves(runs: Sequence[Run]) -> list[Figure]:
    """Each plot of `CURVES` that a run has numbers for."""
    figures = []
    for name, (title, metrics) in CURVES.items():
        drawn: dict[str, list[tuple[str, str, pd.DataFrame]]] = {}
        for arm, group in by_arm(runs).items():
            drawn[arm] = []
            for (style, word), choices in metrics.items():
                frame = next((frame for choice in choices if (frame := curve(group, choice)) is not None), None)
                if frame is not None:
                    drawn[arm].append((style, " ".join(filter(None, (arm, word, _seeds(frame)))), frame))
        if any(drawn.values()):
            figures.append(plots.saved(plots.lines(drawn, title, rate=name != "reward"), name))
    return figures


def curve(runs: Sequence[Run], metric: str) -> pd.DataFrame | None:
    """Mean, lowest and highest of the seeds, over the steps that every seed has measured; None if there is none.

    A mean over other seeds than a step before would jump without any policy having changed: where one seed ends, or has
    no value (a restore rate without a resample is not logged), there is no point. A seed without the metric at all is
    not one of them. `attrs` has their number, and whether a seed goes on after the last common step.
    """
    seeds = [smoothed(values) for run in runs if (values := run.series(metric))]
    table = pd.concat(seeds, axis=1, join="inner").sort_index() if seeds else pd.DataFrame()
    if table.empty:
        return None
    frame: pd.DataFrame = pd.DataFrame(
        {"mean": table.mean(axis=1), "low": table.min(axis=1), "high": table.max(axis=1)}
    )
    last = max(values.index[-1] for values in seeds)
    frame.attrs = {"seeds": len(seeds), "ends_early": bool(frame.index[-1] < last)}
    return frame


def smoothed(values: Mapping[int, float]) -> "pd.Series[float]":
    """Centred moving average over 1/20 of the points; at the ends over what there is."""
    half = len(values) // STEPS_PER_WINDOW // 2
    series = pd.Series(dict(values), dtype=float)
    return series.rolling(2 * half + 1, center=True, min_periods=1).mean() if half else series


def _seeds(frame: pd.DataFrame) -> str:
    end = f", to step {frame.index[-1]}, where one ends" if frame.attrs["ends_early"] else ""
    return f"({frame.attrs['seeds']} seeds{end})" if frame.attrs["seeds"] > 1 else ""


def correlation(runs: Sequence[Run], traces: Mapping[Path, Traced]) -> list[Figure]:
    """Confidence against entropy, of the arms with at least three tool calls that have both."""
    clouds = {}
    for arm, group in by_arm(runs).items():
        cloud = pd.concat([CALLS, *(traces[run.path].calls for run in group if run.path in traces)])
        if len(cloud) >= 3:
            clouds[arm] = cloud
    words = []
    for arm, cloud in clouds.items():
        pearson, spearman = correlations(cloud)
        words.append(f"{arm}: Pearson {pearson:.3f}, Spearman {spearman:.3f} over {len(cloud)} tool calls.")
    return [plots.saved(plots.scatter(clouds), "confidence_entropy", " ".join(words))] if clouds else []


def correlations(cloud: pd.DataFrame) -> tuple[float, float]:
    """Pearson's and Spearman's correlation of negated confidence with entropy; NaN where either is constant."""
    pearson, spearman = (float((-frame["confidence"]).corr(frame["entropy"])) for frame in (cloud, cloud.rank()))
    return pearson, spearman
