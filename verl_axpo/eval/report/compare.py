"""Two evaluations, question by question: A, B -> differences B - A -> delta, interval, permutation p-value."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from verl_axpo.eval.manifest import differences
from verl_axpo.eval.report.results import MEASURES, Array, Evaluation, Result
from verl_axpo.eval.report.stats import Difference, difference
from verl_axpo.eval.report.tables import Table, columns, measure_words, percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`differences`: measure -> column -> B - A on the questions that both have. `settings`: what was not the same."""

    before: Evaluation
    after: Evaluation
    differences: dict[str, dict[str, Difference]]
    settings: tuple[str, ...]


def compare(before: Evaluation, after: Evaluation) -> Comparison:
    """Compare two runs on the benchmarks that both have.

    Raises:
        ValueError: no benchmark in common, or one whose questions are not the same.
    """
    theirs = {result.name: result for result in after.results}
    shared = [result for result in before.results if result.name in theirs]
    if not shared:
        known = [[result.name for result in one.results] for one in (before, after)]
        raise ValueError(f"compare: got {known[0]} and {known[1]}, expected a benchmark in common")
    for result in shared:
        _require_same_questions(before, after, result.name)
    common = Evaluation(folder=before.folder, manifest=before.manifest, results=tuple(shared))
    found = {
        measure: {
            name: difference([_deltas(one, theirs[one.name], measure) for one in some])
            for name, some in columns(common).items()
        }
        for measure in MEASURES
    }
    changed = differences(_settings(before), _settings(after))
    return Comparison(before=before, after=after, differences=found, settings=tuple(changed))


def _settings(evaluation: Evaluation) -> dict[str, Any]:
    data = {f"data of {name}": digest for name, digest in evaluation.manifest.tool_data.items()}
    return {**evaluation.manifest.settings, **data}


def comparison_table(comparison: Comparison) -> Table:
    """A line per column and measure."""
    titles = {result.name: result.column for result in comparison.before.results}
    table = [["", "measure", "A %", "B %", "B - A, points", "95 % interval", "p", "questions"]]
    words = measure_words(comparison.before.rollouts)
    names = list(next(iter(comparison.differences.values())))
    for name in names:
        for measure, word in words.items():
            one = comparison.differences[measure][name]
            means = _means(comparison, name, measure)
            table.append([titles.get(name, name), word, *map(percent, means), *_cells(one)])
    return table


def _cells(one: Difference) -> list[str]:
    delta, low, high = (f"{100 * value:+.1f}" for value in (one.delta.value, one.delta.low, one.delta.high))
    return [delta, f"[{low}, {high}]", f"{one.p_value:.4f}", str(one.questions)]


def _means(comparison: Comparison, name: str, measure: str) -> tuple[float, float]:
    """Both sides on the same questions, so that their difference is the delta beside them."""
    theirs = {result.name: result for result in comparison.after.results}
    shared = [result for result in comparison.before.results if result.name in theirs]
    common = Evaluation(folder=comparison.before.folder, manifest=comparison.before.manifest, results=tuple(shared))
    pairs = [_both(one, theirs[one.name], measure) for one in columns(common)[name]]
    usable = [pair for pair in pairs if pair.size]
    sides = np.mean([pair.mean(axis=1) for pair in usable], axis=0) if usable else np.full(2, np.nan)
    return float(sides[0]), float(sides[1])


def _deltas(before: Result, after: Result, measure: str) -> Array:
    first, second = _both(before, after, measure)
    deltas: Array = second - first
    return deltas


def _both(before: Result, after: Result, measure: str) -> Array:
    """(2, Q): the questions on which both runs have a number."""
    pair: Array = np.stack([before.per_question(measure), after.per_question(measure)])
    return pair[:, ~np.isnan(pair).any(axis=0)]


def _require_same_questions(before: Evaluation, after: Evaluation, name: str) -> None:
    known: Sequence[str] = [one.manifest.benchmarks[name]["sha256"] for one in (before, after)]
    if known[0] != known[1]:
        raise ValueError(f"compare: {name} has other questions in {before.folder} than in {after.folder}")
