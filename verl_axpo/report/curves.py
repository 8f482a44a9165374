"""Numbers behind the plots: runs -> one curve per arm and metric (mean and spread over seeds) and correlations."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from verl_axpo.core.types import Status
from verl_axpo.report.runs import Run
from verl_axpo.trace import iter_steps

Array = npt.NDArray[np.float64]

STEPS_PER_WINDOW = 20  # a curve is smoothed over 1/20 of its steps: short runs are shown as they are
ENDS = 5  # the "first" and "last" of a table are means over 1/5 of the steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A metric of one arm: over S steps the mean of the seeds, and their lowest and highest.

    `ends_early`: a seed went on after the last step that all of them have.
    """

    arm: str
    seeds: int
    steps: Array  # (S,)
    mean: Array  # (S,)
    low: Array  # (S,)
    high: Array  # (S,)
    ends_early: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """Tool calls of one arm with both measures of uncertainty, and how well they agree."""

    arm: str
    confidence: Array  # (P,) mean probability
    entropy: Array  # (P,) nats

    @property
    def pearson(self) -> float:
        """Correlation of negated confidence with entropy."""
        return pearson(-self.confidence, self.entropy)

    @property
    def spearman(self) -> float:
        """The same of their ranks."""
        return pearson(_ranks(-self.confidence), _ranks(self.entropy))


def by_arm(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """The runs of each arm, arms in order of first appearance."""
    arms: dict[str, list[Run]] = {}
    for run in runs:
        arms.setdefault(run.arm, []).append(run)
    return arms


def curve(arm: str, runs: Sequence[Run], metric: str) -> Curve | None:
    """The metric over the steps that every seed has measured; None if there is none.

    A mean over other seeds than a step before would jump without any policy having changed: where one seed ends, or has
    no value (a restore rate without a resample is not logged), there is no point. A seed without the metric at all is
    not one of them.
    """
    values = [smoothed(found) for run in runs if (found := series(run, metric))]
    steps = sorted(set.intersection(*map(set, values))) if values else []
    if not steps:
        return None
    table = np.array([[of_seed[step] for step in steps] for of_seed in values])
    last = max(max(of_seed) for of_seed in values)
    return Curve(
        arm=arm,
        seeds=len(values),
        steps=np.array(steps, dtype=np.float64),
        mean=table.mean(axis=0),
        low=table.min(axis=0),
        high=table.max(axis=0),
        ends_early=steps[-1] < last,
    )


def series(run: Run, metric: str) -> dict[int, float]:
    """One run's values by step."""
    return {step: values[metric] for step, values in run.metrics.items() if metric in values}


def smoothed(values: Mapping[int, float]) -> dict[int, float]:
    """Centred moving average over 1/20 of the points; at the ends over what there is."""
    half = len(values) // STEPS_PER_WINDOW // 2
    numbers = list(values.values())
    return {step: float(np.mean(numbers[max(0, index - half) : index + half + 1])) for index, step in enumerate(values)}


def ends(run: Run, metric: str) -> tuple[float, float] | None:
    """Mean over the first and over the last fifth of the run's steps; None if it was not measured in either."""
    steps = sorted(step for step in run.metrics if step > 0)  # 0 is the validation before training
    count = max(1, len(steps) // ENDS)
    values = series(run, metric)
    first, last = ([values[step] for step in some if step in values] for some in (steps[:count], steps[-count:]))
    return (float(np.mean(first)), float(np.mean(last))) if first and last else None


def scatter(arm: str, runs: Sequence[Run]) -> Scatter | None:
    """Confidence and entropy of the arm's ordinary tool calls; None below three of them."""
    pairs = [
        (record.confidence, record.entropy)
        for run in runs
        for step in (iter_steps(run.trace_dir, tokens=False) if run.trace_dir else ())
        for record in step.records
        if record.confidence is not None and record.entropy is not None and record.source_session is None
        if record.status is not Status.INFRA_FAILURE
    ]
    if len(pairs) < 3:
        return None
    confidence, entropy = np.array(pairs, dtype=np.float64).T
    return Scatter(arm=arm, confidence=confidence, entropy=entropy)


def pearson(left: Array, right: Array) -> float:
    """Pearson's correlation; nan if either side is constant."""
    left, right = left - left.mean(), right - right.mean()
    scale = float(np.sqrt((left**2).sum() * (right**2).sum()))
    return float((left * right).sum()) / scale if scale > 0 else float("nan")


def _ranks(values: Array) -> Array:
    """Ranks from 0, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts) - 1
    ranks: Array = (last - (counts - 1) / 2)[inverse]
    return ranks
