"""An evaluation's folder -> `Report`: the paper's table, what is countable, plots, the page of its questions.

load_evaluation() -> summary() -> paper_table(), plots.bars()
                  -> breakdown() of each benchmark -> detail_tables()
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd

from verl_axpo.core.types import Status
from verl_axpo.eval import versions
from verl_axpo.eval.manifest import read_manifest
from verl_axpo.eval.store import MANIFEST, REPORT, ROLLOUTS, SCORES, Store, file_hash
from verl_axpo.report import plots
from verl_axpo.report.build import Figure, Report, Section, write
from verl_axpo.report.compare import measure_words
from verl_axpo.report.page import QUESTIONS_IN_FULL, Page
from verl_axpo.report.results import Evaluation, Result, Row, load_evaluation
from verl_axpo.report.stats import BOOTSTRAP, MEASURES, Estimate, average
from verl_axpo.report.table import Rows, Table
from verl_axpo.trace.records import UNDECODABLE, ToolCall

VERSION = 3  # raise when a number of the report is made in another way
REPORT_MD, REPORT_JSON, _ = REPORT
MOST_CHARACTERS = 40  # of a tool's name
OUTCOMES = {"correct": True, "wrong": False, "unscored": None}
USES = {"tool": "tool", "no_tool": "no tool"}
DETAILS = {
    "statuses": "How rollouts ended and who scored them",
    "outcomes": "Tool use and outcome",
    "tools": "Tools",
    "lengths": "Lengths and turns",
    "conventions": "Other conventions of the scorers, %",
}
PAPERS = 'Rows named "paper\'s" are printed in the paper (arXiv 2605.28774), not measured here.'

Numbers = Mapping[str, Mapping[str, Estimate]]  # measure -> column
Breakdowns = Mapping[str, Mapping[str, Any]]  # column -> breakdown() of its benchmark


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What was written: report.md, and what is in it."""

    path: Path
    report: Report

    @property
    def table(self) -> Table:
        return self.report.tables["measures"]

    @property
    def notes(self) -> list[str]:
        return [warning for warning in self.report.warnings if warning != PAPERS]


def build_report(
    folder: str | Path, *, title: str = "Evaluation", with_paper: bool = False, in_full: int = QUESTIONS_IN_FULL
) -> Built:
    """Write the report into the evaluation's folder.

    Args:
        folder: of `verl-axpo eval run`.
        title: the headline.
        with_paper: put the paper's numbers below ours, named as the paper's.
        in_full: questions per benchmark whose rollouts the HTML page carries.

    Raises:
        ValueError: no evaluation there, or a damaged line.
    """
    read_manifest(folder)  # an evaluation at all?
    made_of = state(Path(folder))
    store = Store(folder).load()
    evaluation = load_evaluation(folder, store)
    report = report_of(evaluation, title, with_paper=with_paper, data={"made_of": made_of})
    return Built(path=write(report, folder, page=Page(evaluation, store, in_full)), report=report)


def state(folder: Path) -> dict[str, Any]:
    """What a report of this folder is made of; a report that says the same has nothing to be made again for."""
    sizes = {name: path.stat().st_size if (path := folder / name).exists() else 0 for name in (ROLLOUTS, SCORES)}
    return {"version": VERSION, "scored_by": versions.scoring(), "manifest": file_hash(folder / MANIFEST), **sizes}


def is_current(folder: Path) -> bool:
    """Whether the folder's report is whole and of the folder as it is."""
    try:
        saved = orjson.loads((folder / REPORT_JSON).read_bytes())
        return (folder / REPORT_MD).exists() and bool(saved["made_of"] == state(folder))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def report_of(
    evaluation: Evaluation,
    title: str = "Evaluation",
    *,
    with_paper: bool = False,
    data: Mapping[str, Any] | None = None,
) -> Report:
    """Tables and plots; in the JSON also settings, measures and breakdowns, shares in [0, 1]."""
    numbers, manifest = summary(evaluation), evaluation.manifest
    parts = {result.column: breakdown(result) for result in evaluation.results}
    about = {
        result.name: {
            "column": result.column,
            "group": result.group,
            "revision": manifest.benchmarks[result.name].get("revision"),
            "paper": result.paper,
            **parts[result.column],
        }
        for result in evaluation.results
    }
    kept = {
        "settings": manifest.settings,
        "scored_by_rules": versions.scoring(),
        "prompt": manifest.prompt,
        "tool_data": manifest.tool_data,
        "benchmarks": about,
        "measures": {measure: {name: asdict(number) for name, number in by.items()} for measure, by in numbers.items()},
        "bootstrap": BOOTSTRAP,
    }
    sections = [
        Section(title="", tables=[paper_table(evaluation, numbers, with_paper=with_paper)]),
        *(Section(title=title, tables=[table]) for title, table in detail_tables(parts).items()),
        Section(title="Plots", figures=figures(evaluation, numbers)),
        Section(title="Settings", tables=[settings_table(evaluation)]),
    ]
    warnings = [*([PAPERS] if with_paper else []), *notes(evaluation)]
    return Report(title=title, sections=sections, warnings=warnings, data={**kept, **(data or {})})


# ------------------------------ numbers ------------------------------


def summary(evaluation: Evaluation) -> dict[str, dict[str, Estimate]]:
    """Measure -> column -> mean with its 95 % bootstrap interval over questions."""
    columns = evaluation.columns()
    return {measure: {name: average(group, measure) for name, group in columns.items()} for measure in MEASURES}


def breakdown(result: Result) -> dict[str, Any]:
    """Everything countable about one benchmark, as report.json has it."""
    usable = [row for row in result.rows if row.usable]
    deciders = Counter(row.score.by if row.correct is not None and row.score else "nobody" for row in usable)
    exact = Counter(row.token_exact for row in usable)
    return {
        "questions": len(result.uids),
        "rollouts": {"planned": len(result.uids) * result.rollouts, "done": len(result.rows)},
        "incomplete_questions": result.incomplete(),
        "statuses": {status.value: sum(row.status is status for row in result.rows) for status in Status},
        "scored_by": {name: deciders[name] for name in ("rule", "judge", "nobody")},
        "values": _values(usable),
        "outcome": {
            use: {
                name: sum(row.correct is correct and row.uses_tool is (use == "tool") for row in usable)
                for name, correct in OUTCOMES.items()
            }
            for use in USES
        },
        "tools": _tool_counts(usable),
        "response_tokens": _quantiles([row.response_tokens for row in usable]),
        "turns": dict(sorted(Counter(row.turns for row in usable).items())),
        "seconds": _quantiles([row.seconds for row in usable]),
        "model_seconds": _quantiles([row.model_seconds for row in usable]),
        "token_exact": {"exact": exact[True], "differs": exact[False], "unknown": exact[None]},
    }


def _values(rows: Sequence[Row]) -> dict[str, float]:
    """The mean of each further number of the scores (another convention, F1); 0 for an answer that has no score."""
    scores = pd.DataFrame([row.score.values for row in rows if row.score and row.score.values])
    unscored = sum(row.undecided and not (row.score and row.score.values) for row in rows)
    return {str(name): float(scores[name].sum() / (scores[name].count() + unscored)) for name in sorted(scores)}


def _tool_counts(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Per tool: calls, calls that failed, rollouts with a call, mean seconds."""
    made: dict[str, list[tuple[int, ToolCall]]] = {}
    for at, row in enumerate(rows):
        for call in row.calls:
            made.setdefault(_named(call), []).append((at, call))
    return {
        name: {
            "calls": len(calls),
            "errors": sum(not call.ok for _, call in calls),
            "rollouts": len({at for at, _ in calls}),
            "seconds": sum(call.seconds for _, call in calls) / len(calls),
        }
        for name, calls in sorted(made.items())
    }


def _named(call: ToolCall) -> str:
    """A policy may write anything as a tool's name; files and plots take whole characters, and not too many."""
    name = call.name.encode("utf-8", "replace").decode()
    return (name if len(name) <= MOST_CHARACTERS else name[:MOST_CHARACTERS] + "...") or UNDECODABLE


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    """Mean, median, 90th percentile and maximum; {} of nothing."""
    if not values:
        return {}
    p50, p90, highest = map(float, np.quantile(values, [0.5, 0.9, 1.0]))
    return {"mean": float(np.mean(values)), "p50": p50, "p90": p90, "max": highest}


# ------------------------------ tables ------------------------------


def paper_table(evaluation: Evaluation, numbers: Numbers, *, with_paper: bool = False) -> Table:
    """The measures by column; the paper's own numbers below ours if asked, and named as the paper's."""
    columns = evaluation.columns()
    titles = {name: group[0].column if [name] == [result.name for result in group] else name
              for name, group in columns.items()}  # fmt: skip
    papers = {result.name: result.paper for result in evaluation.results}
    models = dict.fromkeys(model for paper in papers.values() for model in paper) if with_paper else {}
    rows: Rows = []
    for measure, word in measure_words(evaluation.rollouts).items():
        rows.append({"%": word, **{titles[name]: numbers[measure][name] for name in columns}})
        key = "pass_4" if measure == "pass_k" else measure
        for model in models if measure != "pass_k" or evaluation.rollouts == 4 else ():  # the paper has Pass@4 alone
            printed = {name: paper[model][key] for name, paper in papers.items() if model in paper}
            cells = {titles[name]: Estimate.of(percent, 100) for name, percent in printed.items()}
            rows.append({"%": f"{word}, paper's {model} (8B)", **cells})
    return Table(name="measures", rows=rows)


def detail_tables(parts: Breakdowns) -> dict[str, Table]:
    """Title -> table, one line per benchmark or tool; a table without lines is left out."""
    rows: dict[str, Rows] = {name: [] for name in DETAILS}
    for benchmark, part in parts.items():
        first: dict[str, Any] = {"benchmark": benchmark}
        scored, exact = part["scored_by"], part["token_exact"]
        rows["statuses"].append(
            first
            | {"questions": part["questions"], **part["rollouts"], **part["statuses"]}
            | {f"by {who} %": Estimate.of(count, sum(scored.values()) or 1) for who, count in scored.items()}
            | {"incomplete questions": part["incomplete_questions"]}
        )
        counts = {
            f"{USES[use]}, {name}": count for use, cells in part["outcome"].items() for name, count in cells.items()
        }
        rates = {f"correct: {USES[use]} %": _correct(outcomes) for use, outcomes in part["outcome"].items()}
        rows["outcomes"].append(first | counts | rates)
        for tool, calls in part["tools"].items():
            rows["tools"].append(
                first
                | {"tool": tool, "calls": calls["calls"], "rollouts with a call": calls["rollouts"]}
                | {"failed %": Estimate.of(calls["errors"], calls["calls"]), "seconds per call": calls["seconds"]}
            )
        rows["lengths"].append(
            first
            | {f"tokens, {word}": part["response_tokens"].get(word, nan) for word in ("mean", "p50", "p90", "max")}
            | {"turns: rollouts": ", ".join(f"{turns}: {count}" for turns, count in part["turns"].items())}
            | {"seconds, mean": part["seconds"].get("mean", nan)}
            | {"of these the model": part["model_seconds"].get("mean", nan)}
            | {"re-rendered exactly": exact["exact"], "compared": exact["exact"] + exact["differs"]}
        )
        if part["values"]:
            rows["conventions"].append(first | {name: Estimate.of(value) for name, value in part["values"].items()})
    return {DETAILS[name]: Table(name=name, rows=lines) for name, lines in rows.items() if lines}


def _correct(outcomes: Mapping[str, int]) -> Estimate:
    total = sum(outcomes.values()) or nan
    return Estimate(value=outcomes["correct"] / total, at_most=(outcomes["correct"] + outcomes["unscored"]) / total)


def settings_table(evaluation: Evaluation) -> Table:
    """The settings that the numbers were made with, one line each."""
    manifest = evaluation.manifest
    values: dict[str, Any] = {}
    for name, value in manifest.settings.items():
        entries = value.items() if isinstance(value, Mapping) else [("", value)]
        values |= {f"{name}.{key}" if key else name: _words(setting) for key, setting in entries}
    for name, about in manifest.benchmarks.items():
        read = f", revision {about['revision']}" if "revision" in about else ""
        values[f"questions of {name}"] = f"{about['questions']} (SHA-256 {about['sha256']}{read})"
    values["scored by"] = versions.scoring()
    if (prompt := manifest.prompt) is not None:
        values["sampled with"] = prompt.get("versions", versions.FIRST_SAMPLING)
        values["system prompt"] = f"{prompt['system']} (with the tools' schemas SHA-256 {prompt['sha256']})"
    values |= {f"data of {name}": f"SHA-256 {digest}" for name, digest in manifest.tool_data.items()}
    return Table(name="settings", rows=[{"setting": name, "value": value} for name, value in values.items()])


def _words(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


# ------------------------------ notes ------------------------------


def notes(evaluation: Evaluation) -> list[str]:
    """What a reader must know before the numbers: what is missing, failed or unscored."""
    rows, k = list(evaluation.rows), evaluation.rollouts
    questions = sum(len(result.uids) for result in evaluation.results)
    planned = questions * k
    rules = "; ".join(sorted(set(evaluation.outdated.values())))
    nowhere = "they count nowhere, and the next run tries them again"
    again = "the same `verl-axpo eval run` again scores them without sampling"
    counted = {
        f"{planned} rollouts are still to be sampled.": planned - len(rows),
        f"{planned} rollouts failed for no fault of the policy; {nowhere}.": sum(not row.usable for row in rows),
        f'{planned} rollouts could not be scored: "a to b" counts them as wrong and as right; {again}.': sum(
            row.undecided for row in rows
        )
        - len(evaluation.outdated),
        f"{planned} rollouts have verdicts of other rules only ({rules}), which count as none; {again}.": len(
            evaluation.outdated
        ),
        f"{questions} questions have fewer than {k} usable rollouts; Pass@{k} leaves them out.": sum(
            result.incomplete() for result in evaluation.results
        ),
    }
    stray = "rollouts in rollouts.jsonl belong to no question of this evaluation; they are in no number."
    return [
        *(f"{count} of {words}" for words, count in counted.items() if count),
        *(f"{result.column} has no usable rollout: it is in no average."
          for result in evaluation.results if not result.usable),
        *([f"{evaluation.strays} {stray}"] if evaluation.strays else []),
        *(f"{sentence}." for sentence in evaluation.damaged),
        *_lower_bounds(evaluation),
    ]  # fmt: skip


def _lower_bounds(evaluation: Evaluation) -> list[str]:
    """The columns that a judge would raise, each with the verdicts that wait for one."""
    counts = {
        result.column: sum(row.ruled_out and not row.undecided for row in result.rows)
        for result in evaluation.results
        if result.judged
    }
    waiting = [f"{column} ({count} verdicts)" for column, count in counts.items() if count]
    words = "are lower bounds: a rule alone found these answers wrong; `eval run` with --judge-model asks a judge"
    return [f"{', '.join(waiting)} {words}, without sampling again."] if waiting else []


# ------------------------------ plots ------------------------------


def figures(evaluation: Evaluation, numbers: Numbers) -> list[Figure]:
    """What there is nothing to draw of is left out."""
    words, names = measure_words(evaluation.rollouts), [result.column for result in evaluation.results]
    drawn = []
    for name, measures in {"accuracy": ("pass_1", "pass_k"), "tool_use": ("tool_use",)}.items():
        measured = {words[key]: [numbers[key][result.name] for result in evaluation.results] for key in measures}
        drawn.append(plots.saved(plots.bars(measured, names), name))
    usable = [row for row in evaluation.rows if row.usable]
    if usable:
        tokens = {
            word: [row.response_tokens for row in usable if row.correct is correct]
            for word, correct in OUTCOMES.items()
        }
        drawn.append(plots.saved(plots.lengths(tokens), "lengths"))
    return drawn
