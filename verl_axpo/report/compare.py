"""Paired differences B - A, question by question: of two evaluations, and of a training's held-out questions.

Both sides are measured alike: the same questions, Pass@k with the smaller of two k, the same rules of scoring. What one
side lacks is left out of both, and `left_out` says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import nan
from typing import Any

import numpy as np

from verl_axpo.eval import versions
from verl_axpo.eval.manifest import differences
from verl_axpo.report.build import Report, Section
from verl_axpo.report.results import Evaluation, Result
from verl_axpo.report.stats import (
    BOOTSTRAP,
    MEASURES,
    Answers,
    Array,
    Difference,
    Estimate,
    difference,
    in_percent,
)
from verl_axpo.report.table import Rows, Table

Side = Sequence[Answers]  # the seeds of a policy: a question's value is the mean over them
Pairs = Sequence[tuple[Side, Side]]  # one for each benchmark that a number is the mean over


class Signed(Estimate):
    """A difference: `str` says its sign."""

    def __str__(self) -> str:
        interval = f" [{100 * self.low:+.1f}, {100 * self.high:+.1f}]" if self.low == self.low else ""
        return in_percent(self.value, self.at_most, sign="+") + interval


def measure_words(rollouts: int | str) -> dict[str, str]:
    """What the measures are called."""
    return {"pass_1": "Pass@1", "pass_k": f"Pass@{rollouts}", "tool_use": "tool use"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """A and B on the questions that both have a number for; `total` counts the questions that both were asked."""

    sides: tuple[Estimate, Estimate]  # without intervals
    difference: Difference
    total: int


def paired(pairs: Sequence[tuple[Side, Side]], measure: str, k: int) -> Paired:
    """B - A question by question, the mean over `pairs` (benchmarks) of their means.

    Questions are paired by uid; those that one side was not asked are left out.
    """
    uids = [[uid for uid in a[0].uids if all(uid in answers.questions for answers in (*a, *b))] for a, b in pairs]

    def values(end_a: bool, end_b: bool) -> list[Array]:
        """(2, Q) of each pair: the questions on which both sides have a number."""
        sides = [
            np.stack([_of_side(side, asked, measure, k, end) for side, end in zip(pair, (end_a, end_b), strict=True)])
            for pair, asked in zip(pairs, uids, strict=True)
        ]
        return [both[:, ~np.isnan(both).any(axis=0)] for both in sides]

    def mean(side: int, end: bool) -> float:
        return float(np.mean([both[side].mean() if both.size else nan for both in values(end, end)]))

    lowest, highest = ([both[1] - both[0] for both in values(not end, end)] for end in (False, True))
    return Paired(
        sides=(
            Estimate(value=mean(0, False), at_most=mean(0, True)),
            Estimate(value=mean(1, False), at_most=mean(1, True)),
        ),
        difference=difference(lowest, highest),
        total=sum(map(len, uids)),
    )


def _of_side(side: Side, uids: Sequence[str], measure: str, k: int, generous: bool) -> Array:
    """(Q,): the mean over the seeds, NaN where a seed has none."""
    asked = [Answers(questions={uid: seed.questions[uid] for uid in uids}, rollouts=seed.rollouts) for seed in side]
    values: Array = np.mean([answers.per_question(measure, k=k, generous=generous) for answers in asked], axis=0)
    return values


def pair_all(entries: Mapping[str, Pairs], k: int) -> dict[str, dict[str, Paired]]:
    """Entry -> measure -> both sides and their difference."""
    return {name: {measure: paired(pairs, measure, k) for measure in MEASURES} for name, pairs in entries.items()}


def paired_table(name: str, entries: Mapping[str, Mapping[str, Paired]], k: int, title: str = "") -> Table:
    """A row per entry and measure; of one rollout per question, Pass@k is Pass@1."""
    rows: Rows = []
    for words, measured in entries.items():
        for measure, both in measured.items():
            if measure == "pass_k" and k == 1:  # Pass@1 once more
                continue
            found = both.difference
            rows.append(
                {"": words, "measure": measure_words(k)[measure], "A %": both.sides[0], "B %": both.sides[1]}
                | {"B - A, points": Signed(**asdict(found.delta)), "p": found.p_value}
                | {"questions": found.questions, "asked": both.total}
            )
    return Table(name=name, rows=rows, title=title)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`paired`: column -> measure -> B - A on the questions that both have. `settings`: what was not the same.
    `k`: of Pass@k, on both sides. `left_out`: a sentence for each thing that one side has and no number uses."""

    before: Evaluation
    after: Evaluation
    paired: dict[str, dict[str, Paired]]
    settings: tuple[str, ...]
    k: int
    left_out: tuple[str, ...]

    @property
    def differences(self) -> dict[str, dict[str, Difference]]:
        """Measure -> column -> B - A."""
        return {measure: {name: by[measure].difference for name, by in self.paired.items()} for measure in MEASURES}

    @property
    def table(self) -> Table:
        """A line per column and measure."""
        titles = {result.name: result.column for result in self.before.results}
        return paired_table("differences", {titles.get(name, name): by for name, by in self.paired.items()}, self.k)

    def report(self) -> Report:
        """compare.md, compare.html, compare.json."""
        data = {
            "A": str(self.before.folder),
            "B": str(self.after.folder),
            "differences": {
                measure: {name: asdict(value) for name, value in columns.items()}
                for measure, columns in self.differences.items()
            },
            "k": self.k,
            "left_out": list(self.left_out),
            "settings": list(self.settings),
            "scored_by_rules": versions.scoring(),
            "bootstrap": BOOTSTRAP,
        }
        first = Section(title="", note=f"A: {data['A']}. B: {data['B']}.", tables=[self.table])
        told = [f"Left out: {line}" for line in self.left_out] + [f"Other setting: {line}" for line in self.settings]
        return Report(title="B against A", sections=[first], warnings=told, data=data)


def compare(before: Evaluation, after: Evaluation) -> Comparison:
    """Compare two runs on the benchmarks that both have.

    Raises:
        ValueError: no benchmark in common, one whose questions are not the same, or verdicts of other rules.
    """
    names = [[result.name for result in evaluation.results] for evaluation in (before, after)]
    if not set(names[0]) & set(names[1]):
        raise ValueError(f"compare: got {names[0]} and {names[1]}, expected a benchmark in common")
    for name in names[0]:
        if name in names[1]:
            _require_same_questions(before, after, name)
    _require_same_rules(before, after)
    k = min(before.rollouts, after.rollouts)
    columns = _columns(before, after)
    return Comparison(
        before=before,
        after=after,
        paired=pair_all({name: [([a], [b]) for a, b in pairs] for name, pairs in columns.items()}, k),
        settings=tuple(differences(_settings(before), _settings(after))),
        k=k,
        left_out=tuple(_left_out(before, after, columns, k)),
    )


def _columns(before: Evaluation, after: Evaluation) -> dict[str, list[tuple[Result, Result]]]:
    """The benchmarks that both have, and averages of those that both have a number for."""
    theirs = {result.name: result for result in after.results}
    shared = {result.name: (result, theirs[result.name]) for result in before.results if result.name in theirs}
    usable = tuple(mine for mine, other in shared.values() if mine.usable and other.usable)
    common = Evaluation(folder=before.folder, manifest=before.manifest, results=usable)
    averages = {name: [shared[result.name] for result in group] for name, group in common.columns().items()}
    return {**{name: [pair] for name, pair in shared.items()}, **averages}


def _settings(evaluation: Evaluation) -> dict[str, Any]:
    manifest = evaluation.manifest
    data = {f"data of {name}": digest for name, digest in manifest.tool_data.items()}
    prompt = {name: value for name, value in (manifest.prompt or {}).items() if name != "system"}  # its hash says it
    return {**manifest.settings, **data, "system prompt": prompt}


def _left_out(
    before: Evaluation, after: Evaluation, columns: Mapping[str, Sequence[tuple[Result, Result]]], k: int
) -> Iterator[str]:
    """What a reader would otherwise take for the policies' doing."""
    sides = {"A": before, "B": after}
    names = {side: {result.name: result.column for result in sides[side].results} for side in sides}
    for side, other in (("A", "B"), ("B", "A")):
        yield from (f"{column} is in {side} alone" for name, column in names[side].items() if name not in names[other])
    if before.rollouts != after.rollouts:
        counts = " and ".join(f"{side} has {evaluation.rollouts} rollouts" for side, evaluation in sides.items())
        yield f"{counts} of a question: Pass@{k} is of {k} on both sides, estimated without bias from all of them"
    for name, pairs in columns.items():
        if name == pairs[0][0].name:
            yield from _left_out_of(pairs[0], k)


def _left_out_of(pair: tuple[Result, Result], k: int) -> Iterator[str]:
    column, total = pair[0].column, len(pair[0].uids)
    for side, result in zip("AB", pair, strict=True):
        planned = total * result.rollouts
        missing = planned - sum(row.usable for row in result.rows)
        if missing:
            yield f"{column}: of {side}'s {planned} rollouts {missing} failed or are not sampled"
        if result.undecided:
            words = "have no verdict: they count as wrong at one end and as right at the other"
            yield f"{column}: {result.undecided} answers of {side} {words}"
    for words, measure, least in (("Pass@1", "pass_1", 1), (f"Pass@{k}", "pass_k", k)):
        both = [result.per_question(measure, k=k) for result in pair]
        left = int(np.isnan(both).any(axis=0).sum())
        if left:
            why = f"fewer than {least} of their rollouts are usable in A or B"
            yield f"{column}: {words} leaves out {left} of {total} questions: {why}"


def _require_same_rules(before: Evaluation, after: Evaluation) -> None:
    for side, evaluation in (("A", before), ("B", after)):
        if evaluation.outdated:
            rules = "; ".join(sorted(set(evaluation.outdated.values())))
            raise ValueError(
                f"compare: {len(evaluation.outdated)} verdicts of {side} ({evaluation.folder}) are of other rules "
                f"({rules}, now {versions.scoring()}); run the `verl-axpo eval run` that made it again: it scores them "
                "without sampling"
            )


def _require_same_questions(before: Evaluation, after: Evaluation, name: str) -> None:
    first, second = (evaluation.manifest.benchmarks[name]["file"] for evaluation in (before, after))
    if first != second:
        raise ValueError(f"compare: {name} has other questions in {before.folder} than in {after.folder}")
