"""How sure a number is: per-question values -> bootstrap interval; two runs' differences -> permutation p-value.

    values (Q,) --resample questions--> draws (D,) -> 2.5 and 97.5 percentiles
    deltas (Q,) --flip signs----------> draws (D,) -> share at least as extreme as what was seen

Questions are the unit: the k rollouts of one question are not independent of each other. The average of several
benchmarks is resampled within each of them; where one has no number, there is no average. Answers without a verdict
make two numbers, all of them wrong and all of them right: the interval covers those of both. Everything is seeded, so
that a report is the same each time it is made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

DRAWS = 10_000  # the 2.5 percentile of a share then moves by some hundredths of its width between seeds
LEVEL = 0.95
SEED = 0
CHUNK = 2_000_000  # numbers drawn at a time: 16 MB
ROUNDING = 1e-12  # sums of the same numbers in another order differ by less


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean and its interval; NaN where there is nothing to take a mean of.

    `value` counts answers without a verdict as wrong, `at_most` as right; the same number where there are none.

    Example: `Estimate(value=0.561, at_most=0.561, low=0.51, high=0.612)`
    """

    value: float
    at_most: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A paired difference, its interval, and the p-value of "no difference"; `questions` were in both runs."""

    delta: Estimate
    p_value: float
    questions: int


def estimate(parts: Sequence[Array], *, draws: int = DRAWS, seed: int = SEED) -> Estimate:
    """The mean over benchmarks of their means over questions, with its bootstrap interval.

    Args:
        parts: per-question values of each benchmark, (Q_1,), (Q_2,), ...; NaN are left out. One part for a single
            benchmark.
        draws: bootstrap samples.

    Returns:
        NaN where a benchmark has no value: an average must not change what it is over.
    """
    kept = [values[~np.isnan(values)] for values in parts]
    if not kept or not all(map(len, kept)):
        return Estimate(value=nan, at_most=nan, low=nan, high=nan)
    generator = np.random.default_rng(seed)
    means = np.mean([_resampled_means(values, draws, generator) for values in kept], axis=0)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = float(np.mean([values.mean() for values in kept]))
    return Estimate(value=value, at_most=value, low=float(low), high=float(high))


def bounded(lowest: Sequence[Array], highest: Sequence[Array]) -> Estimate:
    """`estimate` of both ends as one: from the lower end of the first to the higher end of the second."""
    first = estimate(lowest)
    if all(np.array_equal(*pair, equal_nan=True) for pair in zip(lowest, highest, strict=True)):
        return first
    last = estimate(highest)
    return Estimate(value=first.value, at_most=last.value, low=first.low, high=last.high)


def difference(parts: Sequence[Array], *, draws: int = DRAWS, seed: int = SEED) -> Difference:
    """The mean paired difference: its bootstrap interval, and a two-sided permutation test that swaps the two runs.

    Args:
        parts: of each benchmark the differences B - A of its questions, (Q_1,), (Q_2,), ...; NaN are left out.
    """
    kept = [values[~np.isnan(values)] for values in parts]
    delta = estimate(kept, draws=draws, seed=seed)
    if isnan(delta.value):
        return Difference(delta=delta, p_value=nan, questions=sum(map(len, kept)))
    generator = np.random.default_rng(seed)
    permuted = np.mean([_flipped_means(values, draws, generator) for values in kept], axis=0)
    extreme = int((np.abs(permuted) >= abs(delta.value) - ROUNDING).sum())
    # The observed labelling is one of the permutations: p is never zero
    return Difference(delta=delta, p_value=(1 + extreme) / (1 + draws), questions=sum(map(len, kept)))


def bounded_difference(lowest: Sequence[Array], highest: Sequence[Array]) -> Difference:
    """`difference` where answers without a verdict leave a range.

    Args:
        lowest, highest: B - A with those of A counted as right and those of B as wrong, and the other way round.

    Returns:
        p is the larger of both ends, and 1 where the range holds zero: then the answers could make the runs equal.
    """
    first = difference(lowest)
    if all(np.array_equal(*pair, equal_nan=True) for pair in zip(lowest, highest, strict=True)):
        return first
    last = difference(highest)
    at_most, high = last.delta.value, last.delta.high
    holds_zero = first.delta.value <= 0 <= at_most
    return Difference(
        delta=Estimate(value=first.delta.value, at_most=at_most, low=first.delta.low, high=high),
        p_value=1.0 if holds_zero else max(first.p_value, last.p_value),
        questions=first.questions,
    )


def _resampled_means(values: Array, draws: int, generator: np.random.Generator) -> Array:
    """(D,): the mean of as many questions, each drawn with replacement."""
    count = len(values)
    pieces = [values[generator.integers(0, count, size=(size, count))].mean(axis=1) for size in _sizes(draws, count)]
    means: Array = np.concatenate(pieces)
    return means


def _flipped_means(values: Array, draws: int, generator: np.random.Generator) -> Array:
    """(D,): the mean with each difference's sign drawn anew."""
    count = len(values)
    pieces = [(generator.integers(0, 2, size=(size, count)) * 2 - 1) @ values for size in _sizes(draws, count)]
    means: Array = np.concatenate(pieces) / count
    return means


def _sizes(draws: int, count: int) -> list[int]:
    step = max(1, CHUNK // count)
    return [min(step, draws - start) for start in range(0, draws, step)]
