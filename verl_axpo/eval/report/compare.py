"""Two evaluations, question by question: A, B -> differences B - A -> delta, interval, permutation p-value.

Both sides are measured alike: the same questions, Pass@k with the smaller of two k, the same rules of scoring. What one
side lacks is left out of both, and `left_out` says so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from verl_axpo.eval import versions
from verl_axpo.eval.manifest import differences
from verl_axpo.eval.report.results import MEASURES, Array, Evaluation, Result
from verl_axpo.eval.report.stats import Difference, bounded_difference
from verl_axpo.eval.report.tables import columns, measure_words
from verl_axpo.report.passes import in_percent
from verl_axpo.report.render import Table

Pair = tuple[Result, Result]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`differences`: measure -> column -> B - A on the questions that both have. `settings`: what was not the same.
    `k`: of Pass@k, on both sides. `left_out`: a sentence for each thing that one side has and no number uses."""

    before: Evaluation
    after: Evaluation
    differences: dict[str, dict[str, Difference]]
    settings: tuple[str, ...]
    k: int
    left_out: tuple[str, ...] = ()

    def columns(self) -> dict[str, list[Pair]]:
        """The benchmarks that both have, and averages of those that both have a number for."""
        theirs = {result.name: result for result in self.after.results}
        shared = {one.name: (one, theirs[one.name]) for one in self.before.results if one.name in theirs}
        usable = [one for one, other in shared.values() if one.usable and other.usable]
        common = Evaluation(folder=self.before.folder, manifest=self.before.manifest, results=tuple(usable))
        averages = {name: [shared[one.name] for one in some] for name, some in columns(common).items()}
        return {**{name: [pair] for name, pair in shared.items()}, **averages}


def compare(before: Evaluation, after: Evaluation) -> Comparison:
    """Compare two runs on the benchmarks that both have.

    Raises:
        ValueError: no benchmark in common, one whose questions are not the same, or verdicts of other rules.
    """
    known = [[result.name for result in one.results] for one in (before, after)]
    if not set(known[0]) & set(known[1]):
        raise ValueError(f"compare: got {known[0]} and {known[1]}, expected a benchmark in common")
    for name in known[0]:
        if name in known[1]:
            _require_same_questions(before, after, name)
    _require_same_rules(before, after)
    made = Comparison(
        before=before,
        after=after,
        differences={},
        settings=tuple(differences(_settings(before), _settings(after))),
        k=min(before.rollouts, after.rollouts),
    )
    found = {
        measure: {name: _difference(pairs, measure, made.k) for name, pairs in made.columns().items()}
        for measure in MEASURES
    }
    return replace(made, differences=found, left_out=tuple(_left_out(made)))


def _settings(evaluation: Evaluation) -> dict[str, Any]:
    manifest = evaluation.manifest
    data = {f"data of {name}": digest for name, digest in manifest.tool_data.items()}
    prompt = {name: value for name, value in (manifest.prompt or {}).items() if name != "system"}  # its hash says it
    return {**manifest.settings, **data, "system prompt": prompt}


def comparison_table(comparison: Comparison) -> Table:
    """A line per column and measure."""
    table = [["", "measure", "A %", "B %", "B - A, points", "95 % interval", "p", "questions"]]
    for name, pairs in comparison.columns().items():
        title = pairs[0][0].column if name == pairs[0][0].name else name
        for measure, word in measure_words(comparison.k).items():
            sides = (_mean(pairs, measure, comparison.k, side) for side in (0, 1))
            total = sum(len(one.uids) for one, _ in pairs)
            table.append([title, word, *sides, *_cells(comparison.differences[measure][name], total)])
    return table


def _cells(one: Difference, total: int) -> list[str]:
    questions = str(total) if one.questions == total else f"{one.questions} of {total}"
    if np.isnan(one.delta.value):
        return ["-", "-", "-", questions]
    low, high = (f"{100 * value:+.1f}" for value in (one.delta.low, one.delta.high))
    delta = in_percent(one.delta.value, one.delta.at_most, sign="+")
    return [delta, f"[{low}, {high}]", f"{one.p_value:.4f}", questions]


def _difference(pairs: Sequence[Pair], measure: str, k: int) -> Difference:
    """B - A, from B's lower end against A's higher one to the other way round."""
    ends = []
    for generous in (True, False):
        both = [_both(pair, measure, k, generous=(generous, not generous)) for pair in pairs]
        ends.append([one[1] - one[0] for one in both])
    return bounded_difference(ends[0], ends[1])


def _mean(pairs: Sequence[Pair], measure: str, k: int, side: int) -> str:
    """One side on the questions of both, so that the difference of both is the delta next to them."""
    ends = []
    for generous in (False, True):
        values = [_both(pair, measure, k, generous=(generous, generous))[side] for pair in pairs]
        ends.append(float(np.mean([one.mean() if one.size else np.nan for one in values])))
    return in_percent(ends[0], ends[1])


def _both(pair: Pair, measure: str, k: int, *, generous: tuple[bool, bool]) -> Array:
    """(2, Q): the questions on which both runs have a number."""
    sides = [one.per_question(measure, k=k, generous=end) for one, end in zip(pair, generous, strict=True)]
    values: Array = np.stack(sides)
    return values[:, ~np.isnan(values).any(axis=0)]


def _left_out(comparison: Comparison) -> Iterator[str]:
    """What a reader would otherwise take for the policies' doing."""
    sides = {"A": comparison.before, "B": comparison.after}
    names = {side: {result.name: result.column for result in one.results} for side, one in sides.items()}
    for side, other in (("A", "B"), ("B", "A")):
        yield from (f"{column} is in {side} alone" for name, column in names[side].items() if name not in names[other])
    k = comparison.k
    if len({one.rollouts for one in sides.values()}) > 1:
        counts = " and ".join(f"{side} has {one.rollouts} rollouts" for side, one in sides.items())
        yield f"{counts} of a question: Pass@{k} is of {k} on both sides, estimated without bias from all of them"
    for name, pairs in comparison.columns().items():
        if name == pairs[0][0].name:
            yield from _left_out_of(pairs[0], k)


def _left_out_of(pair: Pair, k: int) -> Iterator[str]:
    column, total = pair[0].column, len(pair[0].uids)
    for side, one in zip("AB", pair, strict=True):
        planned = total * one.rollouts
        missing = planned - sum(row.usable for row in one.rows)
        if missing:
            yield f"{column}: of {side}'s {planned} rollouts {missing} failed or are not sampled"
        if one.undecided:
            words = "have no verdict: they count as wrong at one end and as right at the other"
            yield f"{column}: {one.undecided} answers of {side} {words}"
    for words, measure, least in (("Pass@1", "pass_1", 1), (f"Pass@{k}", "pass_k", k)):
        left = total - _both(pair, measure, k, generous=(False, False)).shape[1]
        if left:
            why = f"fewer than {least} of their rollouts are usable in A or B"
            yield f"{column}: {words} leaves out {left} of {total} questions: {why}"


def _require_same_rules(before: Evaluation, after: Evaluation) -> None:
    for side, one in (("A", before), ("B", after)):
        if one.outdated:
            rules = "; ".join(sorted(set(one.outdated.values())))
            raise ValueError(
                f"compare: {len(one.outdated)} verdicts of {side} ({one.folder}) are of other rules ({rules}, now "
                f"{versions.scoring()}); run the `verl-axpo eval run` that made it again: it scores them without "
                "sampling"
            )


def _require_same_questions(before: Evaluation, after: Evaluation, name: str) -> None:
    known: Sequence[str] = [one.manifest.benchmarks[name]["sha256"] for one in (before, after)]
    if known[0] != known[1]:
        raise ValueError(f"compare: {name} has other questions in {before.folder} than in {after.folder}")
