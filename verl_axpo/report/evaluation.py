"""An evaluation's folder -> `Report`: the paper's table, what is countable, plots, and where its rollouts are.

load_evaluation() -> summary() -> paper_table(), plots.bars()
                  -> breakdown() of each benchmark -> detail_tables()
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from verl_axpo.eval import versions
from verl_axpo.eval.manifest import read_manifest
from verl_axpo.eval.store import MANIFEST, REPORT, ROLLOUTS, SCORES, Store, file_hash
from verl_axpo.report import plots
from verl_axpo.report.breakdown import OUTCOMES, Numbers, breakdown, detail_tables, summary
from verl_axpo.report.build import Figure, Report, Section, write
from verl_axpo.report.compare import measure_words
from verl_axpo.report.results import Evaluation, load_evaluation
from verl_axpo.report.stats import BOOTSTRAP, Estimate
from verl_axpo.report.table import Rows, Table

VERSION = 3  # raise when a number of the report is made in another way
REPORT_MD, REPORT_JSON, _ = REPORT
PAPERS = 'Rows named "paper\'s" are printed in the paper (arXiv 2605.28774), not measured here.'


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


def build_report(folder: str | Path, *, title: str = "Evaluation", with_paper: bool = False) -> Built:
    """Write the report into the evaluation's folder.

    Args:
        folder: of `verl-axpo eval run`.
        title: the headline.
        with_paper: put the paper's numbers below ours, named as the paper's.

    Raises:
        ValueError: no evaluation there, or a damaged line.
    """
    read_manifest(folder)  # an evaluation at all?
    made_of = state(Path(folder))
    store = Store(folder).load()
    evaluation = load_evaluation(folder, store)
    report = report_of(evaluation, title, with_paper=with_paper, data={"made_of": made_of})
    return Built(path=write(report, folder), report=report)


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
        Section(title="Questions and rollouts", note="`verl-axpo view DIR` shows them, with DIR this report's folder."),
    ]
    warnings = [*([PAPERS] if with_paper else []), *notes(evaluation)]
    return Report(title=title, sections=sections, warnings=warnings, data={**kept, **(data or {})})


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


def settings_table(evaluation: Evaluation) -> Table:
    """The settings that the numbers were made with, one line each."""
    manifest = evaluation.manifest
    values: dict[str, Any] = {}
    for name, value in manifest.settings.items():
        entries = value.items() if isinstance(value, Mapping) else [("", value)]
        values |= {f"{name}.{key}" if key else name: _words(setting) for key, setting in entries}
    for name, about in manifest.benchmarks.items():
        read = f", revision {about['revision']}" if "revision" in about else ""
        values[f"questions of {name}"] = f"{about['questions']} (SHA-256 {about['file']}{read})"
    values["scored by"] = versions.scoring()
    if (prompt := manifest.prompt) is not None:
        values["sampled with"] = prompt.get("versions", versions.FIRST_SAMPLING)
        values["system prompt"] = f"{prompt['system']} (with the tools' schemas SHA-256 {prompt['sha256']})"
    values |= {f"data of {name}": f"SHA-256 {digest}" for name, digest in manifest.tool_data.items()}
    return Table(name="settings", rows=[{"setting": name, "value": value} for name, value in values.items()])


def _words(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


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
