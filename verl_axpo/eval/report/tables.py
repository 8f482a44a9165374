"""Arrays -> tables: the paper's (Pass@1, Pass@k, tool use), and what is behind it. Numbers first, words last.

Evaluation -> summary() -> {measure: {column: Estimate}} -> paper_table() -> rows of text
           -> breakdown() -> per benchmark: statuses, scoring, tools, lengths, turns
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from verl_axpo.core.types import Status
from verl_axpo.eval import benchmarks
from verl_axpo.eval.report.breakdown import breakdown
from verl_axpo.eval.report.results import MEASURES, Evaluation, Result
from verl_axpo.eval.report.stats import Estimate, bounded
from verl_axpo.report.passes import in_percent
from verl_axpo.report.render import Table

AVERAGE = "average"  # alone: of all nine benchmarks of the paper


def columns(evaluation: Evaluation) -> dict[str, list[Result]]:
    """The table's columns: each benchmark, each group of several, all of several.

    A benchmark without a usable rollout is in no average. An average over fewer than the paper has says so.
    """
    found = {result.name: [result] for result in evaluation.results}
    usable = [result for result in evaluation.results if result.usable]
    groups = {group: [result for result in usable if result.group == group] for group in evaluation.groups()}
    if len(groups) > 1:
        found |= {f"{group} {_average(some, group)}": some for group, some in groups.items() if len(some) > 1}
    if len(usable) > 1:
        found[_average(usable)] = usable
    return found


def _average(some: Sequence[Result], group: str | None = None) -> str:
    """`average`, of the paper's benchmarks with how many of them, of others with how many."""
    papers = [name for name in benchmarks.names() if group in (None, benchmarks.get(name).group)]
    names = {result.name for result in some}
    if not names <= set(papers):
        return f"{AVERAGE} of {len(some)}"
    return AVERAGE if len(names) == len(papers) else f"{AVERAGE} of {len(names)} of {len(papers)}"


def summary(evaluation: Evaluation) -> dict[str, dict[str, Estimate]]:
    """Measure -> column -> mean with its 95 % bootstrap interval over questions."""
    return {
        measure: {
            name: bounded(*([one.per_question(measure, generous=end) for one in some] for end in (False, True)))
            for name, some in columns(evaluation).items()
        }
        for measure in MEASURES
    }


def measure_words(rollouts: int) -> dict[str, str]:
    """What the measures are called."""
    return {"pass_1": "Pass@1", "pass_k": f"Pass@{rollouts}", "tool_use": "tool use"}


def paper_table(
    evaluation: Evaluation, numbers: Mapping[str, Mapping[str, Estimate]], *, with_paper: bool = False
) -> Table:
    """Rows of percent with intervals; the paper's own numbers below ours if asked, and named as the paper's."""
    titles = {result.name: result.column for result in evaluation.results}
    names = list(columns(evaluation))
    table = [["%", *(titles.get(name, name) for name in names)]]
    for measure, word in measure_words(evaluation.rollouts).items():
        table.append([word, *(interval(numbers[measure][name]) for name in names)])
        if with_paper:
            table.extend(_paper_rows(evaluation, measure, word, names))
    return table


def _paper_rows(evaluation: Evaluation, measure: str, word: str, names: Sequence[str]) -> Table:
    key = {"pass_1": "pass_1", "pass_k": "pass_4", "tool_use": "tool_use"}[measure]
    if measure == "pass_k" and evaluation.rollouts != 4:  # the paper has Pass@4 alone
        return []
    papers = {result.name: result.paper for result in evaluation.results}
    models = list(dict.fromkeys(model for paper in papers.values() for model in paper))
    return [
        [f"{word}, paper's {model} (8B)", *(_paper_cell(papers.get(name, {}), model, key) for name in names)]
        for model in models
    ]


def _paper_cell(paper: Mapping[str, Mapping[str, float]], model: str, key: str) -> str:
    return f"{paper[model][key]:.1f}" if model in paper else ""


def interval(one: Estimate) -> str:
    """Percent with its interval: `56.1 [51.0, 61.2]`; `30.0 to 44.0 [25.0, 50.0]` where answers have no verdict."""
    value = in_percent(one.value, one.at_most)
    return value if math.isnan(one.value) else f"{value} [{percent(one.low)}, {percent(one.high)}]"


def percent(share: float) -> str:
    """One decimal."""
    return f"{100 * share:.1f}"


def detail_tables(evaluation: Evaluation) -> dict[str, Table]:
    """Title -> table, one line per benchmark or tool."""
    found = {result.column: breakdown(result) for result in evaluation.results}
    return {
        "How rollouts ended and who scored them": _status_table(found),
        "Tool use and outcome": _outcome_table(found),
        "Tools": _tool_table(found),
        "Lengths and turns": _length_table(found),
        **({"Other conventions of the scorers, %": table} if len(table := _value_table(found)) > 1 else {}),
    }


def _status_table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    head = ["benchmark", "questions", "rollouts", *(status.value for status in Status)]
    table = [[*head, "by rule %", "by judge %", "unscored %", "incomplete questions"]]
    for name, one in found.items():
        done, scored = one["rollouts"], one["scored_by"]
        total = max(1, sum(scored.values()))
        shares = [percent(scored[key] / total) for key in ("rule", "judge", "nobody")]
        counts = [str(one["statuses"][status.value]) for status in Status]
        questions = [str(one["questions"]), f"{done['done']} of {done['planned']}"]
        table.append([name, *questions, *counts, *shares, str(one["incomplete_questions"])])
    return table


def _outcome_table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    cells = [(use, outcome) for use in ("tool", "no_tool") for outcome in ("correct", "wrong", "unscored")]
    words = [f"{'tool' if use == 'tool' else 'no tool'}, {outcome}" for use, outcome in cells]
    rates = ["correct with tool %", "correct without %"]
    table = [["benchmark", *words, *rates]]
    for name, one in found.items():
        matrix = one["outcome"]
        counts = [str(matrix[use][outcome]) for use, outcome in cells]
        table.append([name, *counts, *(_correct_rate(matrix[use]) for use in ("tool", "no_tool"))])
    return table


def _correct_rate(outcomes: Mapping[str, int]) -> str:
    total = sum(outcomes.values())
    correct, at_most = outcomes["correct"], outcomes["correct"] + outcomes["unscored"]
    return in_percent(correct / total, at_most / total) if total else "-"


def _tool_table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    table = [["benchmark", "tool", "calls", "rollouts with a call", "failed %", "seconds per call"]]
    for name, one in found.items():
        for tool, counts in one["tools"].items():
            numbers = [str(int(counts["calls"])), str(int(counts["rollouts"]))]
            failed = percent(counts["errors"] / counts["calls"])
            table.append([name, tool, *numbers, failed, f"{counts['seconds']:.3g}"])
    return table


def _length_table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    spread = ("mean", "p50", "p90", "max")
    head = [f"tokens, {word}" for word in spread]
    table = [["benchmark", *head, "turns: rollouts", "seconds, mean", "of these the model", "re-rendered exactly"]]
    for name, one in found.items():
        tokens = [f"{one['response_tokens'].get(word, math.nan):.0f}" for word in spread]
        turns = ", ".join(f"{turns}: {count}" for turns, count in one["turns"].items())
        seconds = [f"{one[key].get('mean', math.nan):.1f}" for key in ("seconds", "model_seconds")]
        exact = one["token_exact"]
        known = exact["exact"] + exact["differs"]
        table.append([name, *tokens, turns, *seconds, f"{exact['exact']} of {known}" if known else "-"])
    return table


def _value_table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    names = list(dict.fromkeys(name for one in found.values() for name in one["values"]))
    table = [["benchmark", *names]]
    for benchmark, one in found.items():
        if one["values"]:
            cells = [percent(one["values"][name]) if name in one["values"] else "" for name in names]
            table.append([benchmark, *cells])
    return table
