"""Rollouts on disk -> arrays: for each benchmark Q questions x k rollouts of "correct" and "used a tool".

    Store -> Row per rollout -> Result(correct, tool) -> Pass@1, Pass@k and tool use of each question

A rollout that failed for no fault of the policy, or that nobody could score, is NaN: no number counts it as wrong.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from verl_axpo.core.types import Status
from verl_axpo.eval.manifest import Manifest, read_manifest
from verl_axpo.eval.records import RolloutRecord
from verl_axpo.eval.store import Store
from verl_axpo.eval.types import Score
from verl_axpo.trace.records import ToolCall

Array = npt.NDArray[np.float64]
MEASURES = ("pass_1", "pass_k", "tool_use")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One rollout without its texts; `ruled_out`: a rule alone found its answer wrong, without a judge behind it."""

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

    @property
    def correct(self) -> Array:
        """(Q, k): 1 correct, 0 wrong, NaN neither."""
        return self._matrix({(row.uid, row.rollout): row.correct for row in self.rows})

    @property
    def tool(self) -> Array:
        """(Q, k): 1 used a tool, 0 did not, NaN failed or missing."""
        return self._matrix({(row.uid, row.rollout): row.uses_tool if row.usable else None for row in self.rows})

    def per_question(self, measure: str) -> Array:
        """(Q,): a measure of each question, NaN where no rollout is usable.

        Raises:
            ValueError: not one of `MEASURES`.
        """
        if measure == "pass_1":
            return row_means(self.correct)
        if measure == "pass_k":
            return np.where(np.isnan(self.correct).all(axis=1), np.nan, (self.correct == 1).any(axis=1))
        if measure == "tool_use":
            return row_means(self.tool)
        raise ValueError(f"measure: got {measure!r}; choose from {list(MEASURES)}")

    @property
    def incomplete(self) -> int:
        """Questions with fewer than k scored rollouts: their Pass@k is of fewer tries."""
        return int(np.isnan(self.correct).any(axis=1).sum())

    def _matrix(self, values: Mapping[tuple[str, int], bool | None]) -> Array:
        cells = [[values.get((uid, at)) for at in range(self.rollouts)] for uid in self.uids]
        plain = [[np.nan if cell is None else float(cell) for cell in line] for line in cells]
        return np.array(plain, dtype=np.float64).reshape(len(self.uids), self.rollouts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A whole evaluation; `results` in the paper's order of columns."""

    folder: Path
    manifest: Manifest
    results: tuple[Result, ...]

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
    rows: dict[str, list[Row]] = {name: [] for name in manifest.benchmarks}
    for record in store.rollouts(lambda key: key[0] in rows):
        ruled_out = record.answer is not None and store.ruled_out(record.key)
        rows[record.benchmark].append(row_of(record, store.scores.get(record.key), ruled_out))
    k = int(manifest.settings["rollouts"])
    placed = sorted(manifest.benchmarks.items(), key=lambda one: (one[1].get("place", 0), one[0]))
    results = tuple(_result(name, about, k, rows[name], store) for name, about in placed)
    return Evaluation(folder=Path(folder), manifest=manifest, results=results)


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


def _result(name: str, about: Mapping[str, Any], k: int, rows: Sequence[Row], store: Store) -> Result:
    return Result(
        name=name,
        column=about.get("column", name),
        group=about.get("group", "all"),
        uids=tuple(question.uid for question in store.questions(name)),
        rollouts=k,
        rows=tuple(row for row in rows if row.rollout < k),
        judged=about.get("judged", 0),
        paper=about.get("paper", {}),
    )


def row_means(values: Array) -> Array:
    """(Q, k) -> (Q,): the mean of what is there, NaN where nothing is."""
    counts = (~np.isnan(values)).sum(axis=1)
    sums = np.nansum(values, axis=1)
    means: Array = np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)
    return means


def all_rows(evaluation: Evaluation) -> Iterator[Row]:
    """Every rollout of every benchmark."""
    for result in evaluation.results:
        yield from result.rows
