"""Rollouts on disk -> arrays: for each benchmark Q questions, and of each how many of k rollouts were right.

    Store -> Row per rollout -> Result -> Pass@1, Pass@k and tool use of each question, twice: see `per_question`

A rollout that failed for no fault of the policy counts nowhere. One that nobody could score is wrong in the lower of
two numbers and right in the higher.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from verl_axpo.core.types import Status
from verl_axpo.eval.folder import QUESTIONS
from verl_axpo.eval.lines import file_hash
from verl_axpo.eval.manifest import JUDGE, Manifest, read_manifest
from verl_axpo.eval.records import Key, RolloutRecord
from verl_axpo.eval.store import Store
from verl_axpo.eval.types import Score
from verl_axpo.report.passes import pass_at
from verl_axpo.trace.records import ToolCall

Array = npt.NDArray[np.float64]
MEASURES = ("pass_1", "pass_k", "tool_use")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One rollout without its texts; `ruled_out`: a rule alone found its answer wrong, a judge may say otherwise."""

    uid: str
    rollout: int
    status: Status
    score: Score | None
    ruled_out: bool
    uses_tool: bool
    response_tokens: int
    turns: int
    calls: tuple[ToolCall, ...]
    token_exact: bool | None
    model_seconds: float
    seconds: float

    @property
    def usable(self) -> bool:
        """Whether it says something about the policy."""
        return self.status is not Status.INFRA_FAILURE

    @property
    def correct(self) -> bool | None:
        return self.score.correct if self.usable and self.score is not None else None

    @property
    def undecided(self) -> bool:
        """Whether it may yet be right or wrong."""
        return self.usable and self.correct is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One benchmark: its place in the paper's table, and its rows.

    Attributes:
        uids: of the Q questions, in their order.
        rollouts: k, as planned.
        judged: questions whose answers are a judge's where the rule does not call them right.
        paper: the paper's numbers in percent by model name, as the benchmark's module has them.
    """

    name: str
    column: str
    group: str
    uids: tuple[str, ...]
    rollouts: int
    rows: tuple[Row, ...]
    judged: int
    paper: Mapping[str, Mapping[str, float]]

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
        of = {uid: [row for row in some if row.usable] for uid, some in self._by_question.items()}
        if measure == "tool_use":
            return np.array([pass_at(1, len(some), sum(row.uses_tool for row in some)) for some in of.values()])
        tries = 1 if measure == "pass_1" else self.rollouts if k is None else k
        right = [sum(row.correct is True or (generous and row.undecided) for row in some) for some in of.values()]
        return np.array([pass_at(tries, len(some), count) for some, count in zip(of.values(), right, strict=True)])

    @property
    def usable(self) -> bool:
        """Whether there is any number."""
        return any(row.usable for row in self.rows)

    @property
    def undecided(self) -> int:
        """Answers that wait for a verdict."""
        return sum(row.undecided for row in self.rows)

    def incomplete(self, k: int | None = None) -> int:
        """Questions with fewer than k usable rollouts, which Pass@k leaves out."""
        return int(np.isnan(self.per_question("pass_k", k=k)).sum())

    @property
    def _by_question(self) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = {uid: [] for uid in self.uids}
        for row in self.rows:
            found[row.uid].append(row)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A whole evaluation; `results` in the paper's order of columns.

    Attributes:
        strays: rollouts on disk of no question, or beyond the k of each.
        outdated: rollouts whose only verdicts are of other rules -> those rules; they count as undecided.
        damaged: a sentence for each line that cannot be read.
    """

    folder: Path
    manifest: Manifest
    results: tuple[Result, ...]
    strays: int = 0
    outdated: Mapping[Key, str] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()

    @property
    def rollouts(self) -> int:
        return int(self.manifest.settings["rollouts"])

    def groups(self) -> dict[str, list[Result]]:
        """The results of each group, groups in order of first appearance."""
        found: dict[str, list[Result]] = {}
        for result in self.results:
            found.setdefault(result.group, []).append(result)
        return found


def load_evaluation(folder: str | Path, store: Store | None = None) -> Evaluation:
    """Read an evaluation's folder.

    Args:
        folder: of `verl-axpo eval run`.
        store: the folder's, where it is open already.

    Raises:
        ValueError: no evaluation there, or a damaged line.
    """
    manifest = read_manifest(folder)
    store = store or Store(folder).load()
    k = int(manifest.settings["rollouts"])
    asked = {name: _uids(store, name, about) for name, about in manifest.benchmarks.items()}
    known = {(name, uid, at) for name, uids in asked.items() for uid in uids for at in range(k)}
    rows: dict[str, list[Row]] = {name: [] for name in asked}
    for record in store.rollouts(known.__contains__):
        rows[record.benchmark].append(_row(record, store, manifest.settings.get(JUDGE) is not None))
    found = {(name, row.uid, row.rollout) for name, some in rows.items() for row in some if row.usable}
    placed = sorted(manifest.benchmarks.items(), key=lambda one: (one[1].get("place", 0), one[0]))
    return Evaluation(
        folder=Path(folder),
        manifest=manifest,
        results=tuple(_result(name, about, k, asked[name], rows[name]) for name, about in placed),
        strays=len(store.statuses.keys() - known),
        outdated={key: version for key, version in store.outdated.items() if key in found},
        damaged=tuple(store.damaged),
    )


def _uids(store: Store, name: str, about: Mapping[str, Any]) -> tuple[str, ...]:
    """Of the questions that the manifest means, never of a file that another run has left."""
    uids = tuple(question.uid for question in store.questions(name))
    path = store.folder / QUESTIONS / f"{name}.jsonl"
    if len(uids) != about["questions"] or about.get("file", file_hash(path)) != file_hash(path):
        raise ValueError(
            f"{path} is not the file that the manifest names ({len(uids)} questions there, {about['questions']} in the "
            "manifest): a run was stopped in between, or the file is damaged; run the same `verl-axpo eval run` again"
        )
    return uids


def _row(record: RolloutRecord, store: Store, has_judge: bool) -> Row:
    """What a judge has still to decide is undecided, where the evaluation has one."""
    score, ruled_out = store.scores.get(record.key), record.answer is not None and store.ruled_out(record.key)
    if ruled_out and has_judge and score is not None:
        reason = store.refused.get(record.key, "no judge was asked")
        score = replace(score, correct=None, by="nobody", reason=f"wrong by rule; {reason}")
    return row_of(record, score, ruled_out)


def row_of(record: RolloutRecord, score: Score | None, ruled_out: bool) -> Row:
    """A rollout without its texts."""
    return Row(
        uid=record.uid,
        rollout=record.rollout,
        status=record.status,
        score=score,
        ruled_out=ruled_out,
        uses_tool=record.uses_tool,
        response_tokens=record.response_tokens,
        turns=len(record.turns),
        calls=tuple(call for turn in record.turns for call in turn.calls),
        token_exact=record.token_exact,
        model_seconds=sum(turn.seconds for turn in record.turns),
        seconds=record.finished - record.started,
    )


def _result(name: str, about: Mapping[str, Any], k: int, uids: tuple[str, ...], rows: Sequence[Row]) -> Result:
    return Result(
        name=name,
        column=str(about.get("column", name)),
        group=str(about.get("group", "all")),
        uids=uids,
        rollouts=k,
        rows=tuple(rows),
        judged=about.get("judged", 0),
        paper=about.get("paper", {}),
    )


def all_rows(evaluation: Evaluation) -> Iterator[Row]:
    """Every rollout of every benchmark."""
    for result in evaluation.results:
        yield from result.rows
