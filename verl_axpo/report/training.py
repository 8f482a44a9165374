"""Runs of one training, or of several side by side -> `Report`: tables, curves, one example.

load_runs() -> Run -> tables of runs, held-out questions, sources, tools, training
                   -> curves.py: a line per arm over the steps
            -> traced.py: restored subgroups, confidence and entropy, an example
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from verl_axpo.audit import audit
from verl_axpo.report.build import Report, Section, write
from verl_axpo.report.compare import measure_words, pair_all, paired_table
from verl_axpo.report.curves import correlation, curves
from verl_axpo.report.heldout import HeldOut, Stage
from verl_axpo.report.runs import Run, by_arm, load_runs
from verl_axpo.report.standing import standing_table
from verl_axpo.report.stats import Answers, Estimate
from verl_axpo.report.table import Rows, Table
from verl_axpo.report.traced import Traced, example_section, read_trace

ENDS = 5  # the "first" and "last" of a table are means over 1/5 of the steps
STAGES: tuple[Stage, ...] = ("before", "after")

# What the table of training says, in its order: metric, words. A metric that no run has is left out.
TRAINING = {
    "axpo/tool_use_rate": "tool-use rate",
    "axpo/tool_all_wrong_rate": "all-wrong rate, tool-using subgroups",
    "axpo/tool_all_wrong_rate_after": "the same after resampling",
    "axpo/no_tool_all_wrong_rate": "all-wrong rate, no-tool subgroups",
    "axpo/restore_rate": "restore rate",
    "axpo/recovery_rate": "recovery rate of prefixes",
    "axpo/pass@1": "Pass@1, training questions",
    "axpo/pass@N": "Pass@N, training questions",
    "critic/score/mean": "reward",
    "axpo/budget_used": "share of the budget used",
    "axpo/extra_tokens_ratio": "tokens of resamples / of rollouts",
    "axpo/prefix_cache_hit_rate": "prefix-cache hit rate",
    "timing_s/step": "seconds per step",
}


def build_report(run_dirs: Sequence[str | Path], out_dir: str | Path, title: str = "AXPO run") -> Path:
    """Write the report into `out_dir`; returns report.md.

    Raises:
        ValueError: a folder holds no run, or is given twice.
    """
    return write(report_of(load_runs(run_dirs), title), out_dir)


def report_of(runs: Sequence[Run], title: str = "AXPO run") -> Report:
    """Tables and plots; what the runs have not measured is left out."""
    traces = {run.path: read_trace(run.trace_dir) for run in runs if run.trace_dir}
    pairs, unpaired = paired_heldout(runs)
    sections = [
        Section(title="", tables=[runs_table(runs, traces)]),
        _section("Held-out questions", heldout_table(runs), heldout_runs_table(runs), pairs, sources_table(runs)),
        _section("Tools", tools_table(runs)),
        _section("Training", training_table(runs)),
        _section("Does it need AXPO?", standing_table(runs)),
        Section(title="Curves", figures=[*curves(runs), *correlation(runs, traces)]),
        *[example_section(trace) for trace in traces.values() if trace.example][:1],
    ]
    return Report(
        title=title,
        sections=[section for section in sections if section.tables or section.figures],
        warnings=[*_same_seeds(runs), *unpaired],
        data={"runs": [{"name": run.name, "path": str(run.path)} for run in runs]},
    )


def _section(title: str, *tables: Table) -> Section:
    return Section(title=title, tables=[table for table in tables if table.rows])


def _same_seeds(runs: Sequence[Run]) -> list[str]:
    names = [run.name for run in runs]
    return [f"{name} is there {names.count(name)} times: every folder counts as a seed." for name in
            dict.fromkeys(names) if names.count(name) > 1]  # fmt: skip


def runs_table(runs: Sequence[Run], traces: Mapping[Path, Traced]) -> Table:
    """What was run, and whether its trace is what AXPO would have done."""
    rows: Rows = []
    for run in runs:
        selected = sum(values.get("axpo/selected", 0) for values in run.metrics.values())
        steps = sum(step > 0 for step in run.metrics)  # 0 is the evaluation before training
        restored = audited = "no trace"
        if run.trace_dir is not None:
            trace, result = traces[run.path], audit(run.trace_dir)
            restored = f"{trace.restored} of {trace.resampled}"
            audited = f"{len(result.differences) or 'no'} differences in {result.trajectories} trajectories"
        counts: dict[str, Any] = {"run": run.name, "steps": steps, "resampled prefixes": int(selected)}
        rows.append(counts | {"restored subgroups": restored, "audit": audited})
    return Table(name="runs", rows=rows)


def training_table(runs: Sequence[Run], parts: Sequence[Literal["first", "last"]] = ("first", "last")) -> Table:
    """First and last fifth of training for each arm, or one of them; mean over the seeds."""
    rows: Rows = []
    for metric, words in TRAINING.items():
        row: dict[str, Any] = {"": words}
        for arm, group in by_arm(runs).items():
            pairs = [pair for run in group if (pair := ends(run, metric))]
            row |= {f"{arm}: {part} fifth": _mean([pair[part == "last"] for pair in pairs]) for part in parts}
        if any(cell == cell for cell in list(row.values())[1:]):
            rows.append(row)
    return Table(name="training", rows=rows)


def ends(run: Run, metric: str) -> tuple[float, float] | None:
    """Mean over the first and over the last fifth of the run's steps; None if it was not measured in either."""
    steps = sorted(step for step in run.metrics if step > 0)  # 0 is the validation before training
    count, values = max(1, len(steps) // ENDS), run.series(metric)
    first, last = ([values[step] for step in part if step in values] for part in (steps[:count], steps[-count:]))
    return (_mean(first), _mean(last)) if first and last else None


def heldout_table(runs: Sequence[Run]) -> Table:
    """Per arm, before and after: mean over the seeds, with the lowest and highest where there are several."""
    rows: Rows = []
    for arm, group in by_arm(runs).items():
        for stage in STAGES:
            results = [run.heldout[stage] for run in group if stage in run.heldout]
            if results:
                sizes = ", ".join(sorted({f"{len(held.uids)} x {held.rollouts}" for held in results}))
                measures = {f"{word} %": _over_seeds(results, measure) for measure, word in _words(runs).items()}
                last: dict[str, Any] = {"questions x rollouts": sizes, "seeds": len(results)}
                rows.append({"arm": arm, "held-out": stage, **measures, **last})
    return Table(name="heldout", rows=rows)


def _over_seeds(results: Sequence[HeldOut], measure: str) -> Estimate:
    numbers = [held.estimate(measure) for held in results]
    value, at_most = _mean([number.value for number in numbers]), _mean([number.at_most for number in numbers])
    if len(numbers) == 1:
        return Estimate(value=value, at_most=at_most)
    low, high = min(number.value for number in numbers), max(number.at_most for number in numbers)
    return Estimate(value=value, at_most=at_most, low=low, high=high)


def heldout_runs_table(runs: Sequence[Run]) -> Table:
    """Every run on its own, with intervals over the questions, and what its numbers leave out."""
    rows: Rows = []
    for run in runs:
        for stage, held in run.heldout.items():
            measures = {f"{word} %": held.estimate(measure) for measure, word in _words(runs).items()}
            wrong = {
                f"all wrong %: {word}": Estimate.of(held.all_wrong(uses_tool=word == "tool"))
                for word in ("tool", "no tool")
            }
            rows.append(
                {"run": run.name, "held-out": stage, **measures, **wrong, "infra failures": held.infra_failures}
                | {"without a verdict": held.undecided, "questions not in Pass@n": held.incomplete()}
            )
    return Table(name="heldout_runs", rows=rows)


def _words(runs: Sequence[Run]) -> dict[str, str]:
    """The measures in words; runs of different n share the word Pass@n."""
    sizes = {held.rollouts for run in runs for held in run.heldout.values()}
    return measure_words(sizes.pop() if len(sizes) == 1 else "n")


def paired_heldout(runs: Sequence[Run]) -> tuple[Table, list[str]]:
    """Each arm before and after, and each arm after its training against the first, question by question.

    A question's value is the mean over the arm's seeds. Returns the table, and a sentence for each pair without one.
    """
    sides = {
        (arm, stage): [run.heldout[stage] for run in group if stage in run.heldout]
        for arm, group in by_arm(runs).items()
        for stage in STAGES
    }
    first, *others = by_arm(runs)
    asked: list[tuple[tuple[str, Stage], tuple[str, Stage]]]
    asked = [((arm, "before"), (arm, "after")) for arm in (first, *others)]
    asked += [((first, "after"), (arm, "after")) for arm in others]
    entries: dict[str, list[tuple[Sequence[Answers], Sequence[Answers]]]] = {}
    unpaired = []
    for a, b in asked:
        name = f"{a[0]}: before → after" if a[0] == b[0] else f"after: {a[0]} → {b[0]}"
        uids = [set(held.uids) for held in (*sides[a], *sides[b])]
        if sides[a] and sides[b] and set.intersection(*uids):
            entries[name] = [(sides[a], sides[b])]
        elif sides[a] and sides[b]:
            unpaired.append(f"{name}: no paired difference, for no held-out question has the same uid in every run.")
    k = min((held.rollouts for side in sides.values() for held in side), default=1)
    title = "Paired differences on the same held-out questions"
    return paired_table("heldout_paired", pair_all(entries, k), k, title=title), unpaired


_MEAN_OF = re.compile(r"val-(?:core|aux)/(.+)/(acc|uses_tool)/mean@(\d+)")
_CALLS_OF = re.compile(r"axpo/tool/(.+)/calls")


def sources_table(runs: Sequence[Run]) -> Table:
    """Per arm and source, before and after training: correct answers and tool use, means over the seeds.

    These are verl's own validation metrics: `acc`, not the reward, which may pay for tool calls. They count an infra
    failure as wrong. Empty where there is only one source: the other tables say the same.
    """
    rows: Rows = []
    for arm, group in by_arm(runs).items():
        validated = [[means for values in run.metrics.values() if (means := _by_source(values))] for run in group]
        stages = [(means[0], means[-1]) for means in validated if len(means) > 1]
        for source in sorted({source for first, _ in stages for source, _ in first}):
            shares: dict[str, Any] = {}
            for what, word in (("acc", "correct"), ("uses_tool", "tool use")):
                for end, stage in enumerate(STAGES):
                    values = [means[end][source, what] for means in stages if (source, what) in means[end]]
                    shares[f"{word} %: {stage}"] = Estimate.of(_mean(values))
            rows.append({"arm": arm, "data source": source, **shares, "seeds": len(stages)})
    several = len({row["data source"] for row in rows}) > 1
    return Table(name="sources", rows=rows if several else [], title="By data source")


def _by_source(metrics: Mapping[str, float]) -> dict[tuple[str, str], float]:
    """(source, what) -> mean; where questions lost a rollout, verl logs a mean of these alone, of fewer rollouts."""
    matches = [(match, value) for key, value in metrics.items() if (match := _MEAN_OF.fullmatch(key))]
    return {(match[1], match[2]): value for match, value in sorted(matches, key=lambda pair: int(pair[0][3]))}


def tools_table(runs: Sequence[Run]) -> Table:
    """Per arm and tool over all steps and seeds: calls, how many of them erred, and the mean time of a call."""
    rows: Rows = []
    for arm, group in by_arm(runs).items():
        steps = pd.DataFrame([metrics for run in group for metrics in run.metrics.values()]).fillna(0.0)
        for tool in sorted(match[1] for key in steps if (match := _CALLS_OF.fullmatch(key)) and steps[key].any()):
            wanted = [f"axpo/tool/{tool}/{what}" for what in ("calls", "errors", "infra_failures", "seconds")]
            calls, errors, failures, seconds = (
                steps.get(column, 0.0) * pd.Series(1.0, steps.index) for column in wanted
            )
            total = calls.sum()
            rows.append(
                {"arm": arm, "tool": tool, "calls": int(total), "errors %": Estimate.of(errors.sum(), total)}
                | {"infra failures": int(failures.sum()), "seconds per call": float((seconds * calls).sum() / total)}
            )
    return Table(name="agent_tools", rows=rows)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
