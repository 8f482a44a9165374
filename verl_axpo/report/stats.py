"""What a number is and how sure it is, for trainings and evaluations alike.

    Outcome per usable rollout -> Answers --per_question()--> values (Q,)
    values (Q,) --resample questions--> means (D,) -> 2.5 and 97.5 percentiles           estimate()
    deltas (Q,) --flip signs----------> means (D,) -> share at least as extreme as seen  difference()

Questions are the unit: the rollouts of one question are not independent of each other. An average of several benchmarks
is resampled within each of them; where one has no number, there is no average. Answers without a verdict make two
numbers, all of them wrong and all of them right: the interval covers those of both. Everything is seeded, so that a
report is the same each time it is made.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb, isnan, nan
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

MEASURES = ("pass_1", "pass_k", "tool_use")
DRAWS = 10_000  # the 2.5 percentile of a share then moves by some hundredths of its width between seeds
LEVEL = 0.95
SEED = 0
BOOTSTRAP = {"unit": "question", "draws": DRAWS, "level": LEVEL, "seed": SEED}
CHUNK = 2_000_000  # numbers drawn at a time: 16 MB
ROUNDING = 1e-12  # sums of the same numbers in another order differ by less


class Outcome(NamedTuple):
    """One usable rollout; `correct` is None where nobody could judge its answer."""

    correct: bool | None
    uses_tool: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean and its interval, shares in [0, 1]; NaN where there is nothing to take a mean of.

    `value` counts answers without a verdict as wrong, `at_most` as right; the same number where there are none.

    Example: `str(Estimate(value=0.3, at_most=0.44, low=0.25, high=0.5)) == "30.0 to 44.0 [25.0, 50.0]"`
    """

    value: float
    at_most: float
    low: float = nan
    high: float = nan

    @classmethod
    def of(cls, part: float, whole: float = 1.0) -> "Estimate":
        """A share without an interval; NaN of nothing."""
        share = float(part) / float(whole) if whole else nan
        return cls(value=share, at_most=share)

    def __str__(self) -> str:
        interval = "" if isnan(self.low) else f" [{100 * self.low:.1f}, {100 * self.high:.1f}]"
        return in_percent(self.value, self.at_most) + interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A paired difference, its interval, and the p-value of "no difference"; `questions` were on both sides."""

    delta: Estimate
    p_value: float
    questions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The usable rollouts of Q questions, by uid; `rollouts` is the k that was planned for each.

    Example: `Answers(questions={"h0": [Outcome(True, False), Outcome(None, True)]}, rollouts=2)`
    """

    questions: Mapping[str, Sequence[Outcome]]
    rollouts: int

    @property
    def uids(self) -> tuple[str, ...]:
        return tuple(self.questions)

    @property
    def undecided(self) -> int:
        """Answers that wait for a verdict."""
        return sum(outcome.correct is None for group in self.questions.values() for outcome in group)

    def per_question(self, measure: str, *, k: int | None = None, generous: bool = False) -> Array:
        """(Q,): a measure of each question.

        Args:
            measure: one of `MEASURES`.
            k: of Pass@k; None: the rollouts planned.
            generous: whether an answer without a verdict counts as right, for the higher of the two numbers.

        Returns:
            shares in [0, 1]; NaN where no rollout is usable, for `pass_k` where fewer than k are.

        Raises:
            ValueError: not one of `MEASURES`.
        """
        if measure not in MEASURES:
            raise ValueError(f"measure: got {measure!r}; choose from {list(MEASURES)}")
        tries = (self.rollouts if k is None else k) if measure == "pass_k" else 1
        field = "uses_tool" if measure == "tool_use" else "correct"
        hits = [[getattr(outcome, field) for outcome in group] for group in self.questions.values()]
        counts = [(len(group), sum(generous if hit is None else hit for hit in group)) for group in hits]
        return np.array([pass_at(tries, usable, right) for usable, right in counts])

    def incomplete(self) -> int:
        """Questions with fewer than k usable rollouts, which Pass@k leaves out."""
        return int(np.isnan(self.per_question("pass_k")).sum())

    def estimate(self, measure: str) -> Estimate:
        """The mean over the questions that have the number."""
        return average([self], measure)


def pass_at(k: int, usable: int, right: int) -> float:
    """The unbiased estimate `1 - C(n - c, k) / C(n, k)`; NaN where fewer than `k` rollouts are usable.

    It is the chance that k of a question's n usable rollouts, drawn blindly, hold a right one. With n = k it says
    whether any is right, with k = 1 the share that is right, and more rollouts than k make it more exact.

    Args:
        k: tries of the stated number, at least 1.
        usable: n.
        right: c.

    Example: `pass_at(1, 4, 1) == 0.25`, `pass_at(4, 4, 1) == 1.0`, `pass_at(4, 8, 2) == 1 - 15 / 70`
    """
    return nan if usable < k else (comb(usable, k) - comb(usable - right, k)) / comb(usable, k)


def in_percent(lowest: float, highest: float, sign: str = "") -> str:
    """Percent with one decimal; both ends where they differ, and "-" where there is no number.

    Example: `in_percent(0.3, 0.3) == "30.0"`, `in_percent(0.3, 0.44) == "30.0 to 44.0"`
    """
    if isnan(lowest):
        return "-"
    first, last = (f"{100 * share:{sign}.1f}" for share in (lowest, highest))
    return first if first == last else f"{first} to {last}"


def average(parts: Sequence[Answers], measure: str) -> Estimate:
    """The mean over the parts (benchmarks) of their means over questions."""
    return estimate(*([part.per_question(measure, generous=end) for part in parts] for end in (False, True)))


def estimate(
    lowest: Sequence[Array], highest: Sequence[Array] | None = None, *, draws: int = DRAWS, seed: int = SEED
) -> Estimate:
    """The mean over benchmarks of their means over questions, with its bootstrap interval.

    Args:
        lowest: per-question values of each benchmark, (Q_1,), (Q_2,), ...; NaN are left out.
        highest: the same with answers without a verdict counted as right, where that makes a difference.
        draws: bootstrap samples.

    Returns:
        from the lower end of the first to the higher end of the second; NaN where a benchmark has no value: an average
        must not change what it is over.
    """
    kept = [values[~np.isnan(values)] for values in lowest]
    if not kept or not all(map(len, kept)):
        return Estimate(value=nan, at_most=nan)
    generator = np.random.default_rng(seed)
    means = np.mean([_resampled_means(values, draws, generator) for values in kept], axis=0)
    low, high = map(float, np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    value = at_most = float(np.mean([values.mean() for values in kept]))
    if highest is not None and not _equal(lowest, highest):
        upper = estimate(highest, draws=draws, seed=seed)
        at_most, high = upper.value, upper.high
    return Estimate(value=value, at_most=at_most, low=low, high=high)


def difference(
    lowest: Sequence[Array], highest: Sequence[Array] | None = None, *, draws: int = DRAWS, seed: int = SEED
) -> Difference:
    """The mean paired difference: its bootstrap interval, and a two-sided permutation test that swaps the two sides.

    Args:
        lowest: of each benchmark the differences B - A of its questions, (Q_1,), (Q_2,), ...; NaN are left out. Where
            answers lack a verdict, those of A count as right and those of B as wrong.
        highest: the other way round, where that makes a difference.

    Returns:
        p is the larger of both ends, and 1 where the range holds zero: then the answers could make the sides equal.
    """
    kept = [values[~np.isnan(values)] for values in lowest]
    delta = estimate(kept, draws=draws, seed=seed)
    questions = sum(map(len, kept))
    if isnan(delta.value):
        return Difference(delta=delta, p_value=nan, questions=questions)
    generator = np.random.default_rng(seed)
    permuted = np.mean([_flipped_means(values, draws, generator) for values in kept], axis=0)
    extreme = int((np.abs(permuted) >= abs(delta.value) - ROUNDING).sum())
    p_value = (1 + extreme) / (1 + draws)  # the observed labelling is one of the permutations: p is never zero
    if highest is not None and not _equal(lowest, highest):
        upper = difference(highest, draws=draws, seed=seed)
        p_value = 1.0 if delta.value <= 0 <= upper.delta.value else max(p_value, upper.p_value)
        delta = Estimate(value=delta.value, at_most=upper.delta.value, low=delta.low, high=upper.delta.high)
    return Difference(delta=delta, p_value=p_value, questions=questions)


def _equal(lowest: Sequence[Array], highest: Sequence[Array]) -> bool:
    return all(np.array_equal(*ends, equal_nan=True) for ends in zip(lowest, highest, strict=True))


def _resampled_means(values: Array, draws: int, generator: np.random.Generator) -> Array:
    """(D,): the mean of as many questions, each drawn with replacement."""
    count = len(values)
    return _in_pieces(lambda size: values[generator.integers(0, count, size=(size, count))].mean(axis=1), draws, count)


def _flipped_means(values: Array, draws: int, generator: np.random.Generator) -> Array:
    """(D,): the mean with each difference's sign drawn anew."""
    count = len(values)
    return _in_pieces(
        lambda size: (generator.integers(0, 2, size=(size, count)) * 2 - 1) @ values / count, draws, count
    )


def _in_pieces(draw: Callable[[int], Array], draws: int, count: int) -> Array:
    """(D,): what `draw` gives for a number of draws, as many at a time as `CHUNK` has room for."""
    step = max(1, CHUNK // count)
    pieces: Array = np.concatenate([draw(min(step, draws - start)) for start in range(0, draws, step)])
    return pieces
