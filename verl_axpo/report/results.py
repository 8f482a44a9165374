"""Rollouts of an evaluation on disk -> for each benchmark its `Answers`, and one `Row` per rollout.

    Store -> Row per rollout -> Result -> Pass@1, Pass@k and tool use of each question (`Answers.per_question`)

A rollout that failed for no fault of the policy counts nowhere. One that nobody could score is wrong in the lower of
two numbers and right in the higher.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from verl_axpo.core.types import Status
from verl_axpo.eval.manifest import JUDGE, Manifest, read_manifest
from verl_axpo.eval.store import QUESTIONS, Store, file_hash
from verl_axpo.eval.types import Key, RolloutRecord, Score
from verl_axpo.report.stats import Answers, Outcome
from verl_axpo.trace.records import ToolCall


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
class Result(Answers):
    """One benchmark: its answers, its place in the paper's table, and its rows.

    Attributes:
        judged: questions whose answers are a judge's where the rule does not call them right.
        paper: the paper's numbers in percent by model name, as the benchmark's module has them.
    """

    name: str
    column: str
    group: str
    rows: tuple[Row, ...]
    judged: int
    paper: Mapping[str, Mapping[str, float]]

    @property
    def usable(self) -> bool:
        """Whether there is any number."""
        return any(row.usable for row in self.rows)


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

    @property
    def rows(self) -> Iterator[Row]:
        """Every rollout of every benchmark."""
        return (row for result in self.results for row in result.rows)

    def columns(self) -> dict[str, list[Result]]:
        """The table's columns: each benchmark, each group of several, all of several.

        A benchmark without a usable rollout is in no average. An average over fewer than the paper has says so.
        """
        columns = {result.name: [result] for result in self.results}
        usable = [result for result in self.results if result.usable]
        groups = {group: [result for result in usable if result.group == group] for group in self.groups()}
        if len(groups) > 1:
            columns |= {f"{name} {_average(group, name)}": group for name, group in groups.items() if len(group) > 1}
        if len(usable) > 1:
            columns[_average(usable)] = usable
        return columns

    def groups(self) -> list[str]:
        """In order of first appearance."""
        return list(dict.fromkeys(result.group for result in self.results))


def _average(results: Sequence[Result], group: str | None = None) -> str:
    """`average`, of the paper's benchmarks with how many of them, of others with how many."""
    from verl_axpo.eval import benchmarks

    papers = [name for name in benchmarks.names() if group in (None, benchmarks.get(name).group)]
    names = {result.name for result in results}
    if not names <= set(papers):
        return f"average of {len(results)}"
    return "average" if len(names) == len(papers) else f"average of {len(names)} of {len(papers)}"


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
    planned = {(name, uid, at) for name, uids in asked.items() for uid in uids for at in range(k)}
    rows: dict[str, list[Row]] = {name: [] for name in asked}
    for record in store.rollouts(planned.__contains__):
        rows[record.benchmark].append(_row(record, store, manifest.settings.get(JUDGE) is not None))
    usable = {(name, row.uid, row.rollout) for name, group in rows.items() for row in group if row.usable}
    columns = _columns(manifest)
    placed = sorted(manifest.benchmarks, key=lambda name: (manifest.benchmarks[name].get("place", 0), name))
    return Evaluation(
        folder=Path(folder),
        manifest=manifest,
        results=tuple(
            _result(name, {**manifest.benchmarks[name], "column": columns[name]}, k, asked[name], rows[name])
            for name in placed
        ),
        strays=len(store.statuses.keys() - planned),
        outdated={key: version for key, version in store.outdated.items() if key in usable},
        damaged=tuple(store.damaged),
    )


def _columns(manifest: Manifest) -> dict[str, str]:
    """The title of each benchmark; with its name where two benchmarks have the same title."""
    titles = {name: str(about.get("column", name)) for name, about in manifest.benchmarks.items()}
    shared = Counter(titles.values())
    return {name: title if shared[title] == 1 else f"{title} ({name})" for name, title in titles.items()}


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
    """Without its texts."""
    return Row(
        uid=record.uid,
        rollout=record.rollout,
        status=record.status,
        score=store.verdict(record.key, has_judge=has_judge),
        ruled_out=record.answer is not None and store.ruled_out(record.key),
        uses_tool=record.uses_tool,
        response_tokens=record.response_tokens,
        turns=len(record.turns),
        calls=tuple(call for turn in record.turns for call in turn.calls),
        token_exact=record.token_exact,
        model_seconds=sum(turn.seconds for turn in record.turns),
        seconds=record.finished - record.started,
    )


def _result(name: str, about: Mapping[str, Any], k: int, uids: Sequence[str], rows: Sequence[Row]) -> Result:
    questions: dict[str, list[Outcome]] = {uid: [] for uid in uids}
    for row in rows:
        if row.usable:
            questions[row.uid].append(Outcome(row.correct, row.uses_tool))
    return Result(
        questions=questions,
        rollouts=k,
        name=name,
        column=about["column"],
        group=str(about.get("group", "all")),
        rows=tuple(rows),
        judged=about.get("judged", 0),
        paper=about.get("paper", {}),
    )
