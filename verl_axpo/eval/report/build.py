"""An evaluation's folder -> report.json (every number), report.md, report.html and plots/."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from verl_axpo.eval import versions
from verl_axpo.eval.folder import MANIFEST, REPORT, ROLLOUTS, SCORES, drop_report
from verl_axpo.eval.lines import file_hash
from verl_axpo.eval.manifest import read_manifest
from verl_axpo.eval.report.breakdown import breakdown
from verl_axpo.eval.report.compare import Comparison, comparison_table
from verl_axpo.eval.report.page import QUESTIONS_IN_FULL, Page
from verl_axpo.eval.report.plots import draw_all
from verl_axpo.eval.report.results import Evaluation, all_rows, load_evaluation
from verl_axpo.eval.report.stats import DRAWS, LEVEL, SEED, Estimate
from verl_axpo.eval.report.tables import (
    columns,
    detail_tables,
    paper_table,
    summary,
)
from verl_axpo.eval.store import Store
from verl_axpo.files import write_atomically
from verl_axpo.report.render import Table, environment, read_figure

PACKAGE = "verl_axpo.eval.report"  # whose templates these are
VERSION = 2  # raise when a number of the report is made in another way
REPORT_MD, REPORT_JSON, REPORT_HTML = REPORT


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What was written: report.md, and of it the paper's table and the notes."""

    path: Path
    table: Table
    notes: list[str]


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
    numbers = summary(evaluation)
    out = evaluation.folder
    drop_report(out)
    words = draw_all(evaluation, numbers, out / "plots")
    built = Built(
        path=out / REPORT_MD,
        table=paper_table(evaluation, numbers, with_paper=with_paper),
        notes=notes(evaluation),
    )
    context: dict[str, Any] = {
        "title": title,
        "table": built.table,
        "names": list(columns(evaluation)),
        "benchmarks": [result.name for result in evaluation.results],
        "notes": built.notes,
        "details": detail_tables(evaluation),
        "figures": [read_figure(out, f"plots/{name}.png", *some) for name, some in words.items()],
        "settings": settings_table(evaluation),
        "with_paper": with_paper,
    }
    templates = environment(PACKAGE)
    context["page"] = Page(evaluation, store, in_full)
    page, unfinished = templates.get_template("report.html.jinja").stream(context), out / f".{REPORT_HTML}"
    page.dump(str(unfinished), encoding="utf-8", errors="replace")  # in pieces: it may have 100 MB
    unfinished.replace(out / REPORT_HTML)
    _write_json(out / REPORT_JSON, report_json(evaluation, numbers) | {"made_of": made_of})
    text = templates.get_template("report.md.jinja").render(context)
    write_atomically(built.path, text.encode("utf-8", "replace"))
    return built


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


def write_comparison(comparison: Comparison, out: Path) -> Path:
    """Write compare.md and compare.json into `out`; returns compare.md."""
    out.mkdir(parents=True, exist_ok=True)
    context = {
        "before": str(comparison.before.folder),
        "after": str(comparison.after.folder),
        "table": comparison_table(comparison),
        "settings": comparison.settings,
        "left_out": comparison.left_out,
        "draws": DRAWS,
    }
    text = environment(PACKAGE).get_template("compare.md.jinja").render(context)
    write_atomically(out / "compare.md", text.encode("utf-8", "replace"))
    _write_json(
        out / "compare.json",
        {
            "A": context["before"],
            "B": context["after"],
            "differences": {
                measure: {name: asdict(one) for name, one in some.items()}
                for measure, some in comparison.differences.items()
            },
            "k": comparison.k,
            "left_out": list(comparison.left_out),
            "settings": list(comparison.settings),
            "scored_by_rules": versions.scoring(),
            "bootstrap": _bootstrap(),
        },
    )
    return out / "compare.md"


def report_json(evaluation: Evaluation, numbers: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Any]:
    """Every number of the report; shares in [0, 1], NaN as null."""
    return {
        "settings": evaluation.manifest.settings,
        "scored_by_rules": versions.scoring(),
        "prompt": evaluation.manifest.prompt,
        "tool_data": evaluation.manifest.tool_data,
        "benchmarks": {
            result.name: {
                "column": result.column,
                "group": result.group,
                "revision": evaluation.manifest.benchmarks[result.name].get("revision"),
                "paper": result.paper,
                **breakdown(result),
            }
            for result in evaluation.results
        },
        "measures": {measure: {name: asdict(one) for name, one in some.items()} for measure, some in numbers.items()},
        "bootstrap": _bootstrap(),
    }


def notes(evaluation: Evaluation) -> list[str]:
    """What a reader must know before the numbers: what is missing, failed or unscored."""
    rows = list(all_rows(evaluation))
    planned = sum(len(result.uids) * result.rollouts for result in evaluation.results)
    failed = sum(not row.usable for row in rows)
    undecided = sum(row.undecided for row in rows) - len(evaluation.outdated)
    k = evaluation.rollouts
    incomplete = sum(result.incomplete() for result in evaluation.results)
    questions = sum(len(result.uids) for result in evaluation.results)
    rules = "; ".join(sorted(set(evaluation.outdated.values())))
    nowhere = "they count nowhere, and the next run tries them again"
    again = "the same `verl-axpo eval run` again scores them without sampling"
    said = (
        (planned - len(rows), planned, "rollouts are still to be sampled."),
        (failed, planned, f"rollouts failed for no fault of the policy; {nowhere}."),
        (undecided, planned, f'rollouts could not be scored: "a to b" counts them as wrong and as right; {again}.'),
        (
            len(evaluation.outdated),
            planned,
            f"rollouts have verdicts of other rules only ({rules}), which count as none; {again}.",
        ),
        (incomplete, questions, f"questions have fewer than {k} usable rollouts; Pass@{k} leaves them out."),
    )
    return [
        *(f"{count} of {total} {words}" for count, total, words in said if count),
        *(f"{one.column} has no usable rollout: it is in no average." for one in evaluation.results if not one.usable),
        *_strays(evaluation.strays),
        *(f"{sentence}." for sentence in evaluation.damaged),
        *_lower_bounds(evaluation),
    ]


def _strays(count: int) -> list[str]:
    words = "rollouts in rollouts.jsonl belong to no question of this evaluation; they are in no number."
    return [f"{count} {words}"] if count else []


def _lower_bounds(evaluation: Evaluation) -> list[str]:
    """The columns that a judge would raise, each with the verdicts that wait for one."""
    counts = {
        one.column: sum(row.ruled_out and not row.undecided for row in one.rows)
        for one in evaluation.results
        if one.judged
    }
    some = [f"{column} ({count} verdicts)" for column, count in counts.items() if count]
    words = "are lower bounds: a rule alone found these answers wrong; `eval run` with --judge-model asks a judge"
    return [f"{', '.join(some)} {words}, without sampling again."] if some else []


def settings_table(evaluation: Evaluation) -> Table:
    """The settings that the numbers were made with, one line each."""
    table = [["setting", "value"]]
    for name, value in evaluation.manifest.settings.items():
        entries = value.items() if isinstance(value, Mapping) else [("", value)]
        table.extend([f"{name}.{key}" if key else name, _plain(one)] for key, one in entries)
    for name, about in evaluation.manifest.benchmarks.items():
        read = f", revision {about['revision']}" if "revision" in about else ""
        table.append([f"questions of {name}", f"{about['questions']} (SHA-256 {about['sha256']}{read})"])
    prompt = evaluation.manifest.prompt
    table.append(["scored by", versions.scoring()])
    if prompt is not None:
        table.append(["sampled with", prompt.get("versions", versions.FIRST_SAMPLING)])
        table.append(["system prompt", f"{prompt['system']} (with the tools' schemas SHA-256 {prompt['sha256']})"])
    table.extend([f"data of {name}", f"SHA-256 {digest}"] for name, digest in evaluation.manifest.tool_data.items())
    return table


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _bootstrap() -> dict[str, Any]:
    return {"unit": "question", "draws": DRAWS, "level": LEVEL, "seed": SEED}


def _write_json(path: Path, value: Any) -> None:
    write_atomically(path, orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS) + b"\n")
