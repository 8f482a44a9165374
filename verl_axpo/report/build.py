"""The report of one run or of a comparison: runs -> numbers, plots, one example -> report.md and report.html."""

from collections.abc import Sequence
from pathlib import Path

from verl_axpo.audit import audit
from verl_axpo.files import write_atomically
from verl_axpo.report.breakdown import sources_table, tools_table
from verl_axpo.report.curves import by_arm, ends
from verl_axpo.report.example import Example, count_restored, find_example
from verl_axpo.report.heldout import Evaluation
from verl_axpo.report.passes import in_percent
from verl_axpo.report.plots import draw_all
from verl_axpo.report.render import Table, environment, read_figure
from verl_axpo.report.runs import Run, load_run

PACKAGE = "verl_axpo.report"  # whose templates these are

# What the table of training says, in its order: metric, words. A metric that a run lacks is left out.
TRAINING = (
    ("axpo/tool_use_rate", "tool-use rate"),
    ("axpo/tool_all_wrong_rate", "all-wrong rate, tool-using subgroups"),
    ("axpo/tool_all_wrong_rate_after", "the same after resampling"),
    ("axpo/no_tool_all_wrong_rate", "all-wrong rate, no-tool subgroups"),
    ("axpo/restore_rate", "restore rate"),
    ("axpo/recovery_rate", "recovery rate of prefixes"),
    ("axpo/pass@1", "Pass@1, training questions"),
    ("axpo/pass@N", "Pass@N, training questions"),
    ("critic/score/mean", "reward"),
    ("axpo/budget_used", "share of the budget used"),
    ("axpo/extra_tokens_ratio", "tokens of resamples / of rollouts"),
    ("axpo/prefix_cache_hit_rate", "prefix-cache hit rate"),
    ("timing_s/step", "seconds per step"),
)


def build_report(run_dirs: Sequence[str | Path], out_dir: str | Path, title: str = "AXPO run") -> Path:
    """Write report.md, report.html and plots/ into `out_dir`; returns report.md.

    Raises:
        ValueError: a folder holds no run.
    """
    runs = [load_run(run_dir) for run_dir in run_dirs]
    out = Path(out_dir)
    words = draw_all(runs, out / "plots")
    context = {
        "title": title,
        "runs": runs_table(runs),
        "training": training_table(runs),
        "heldout": heldout_table(runs),
        "heldout_runs": heldout_runs_table(runs),
        "sources": sources_table(runs),
        "tools": tools_table(runs),
        "figures": [read_figure(out, f"plots/{name}.png", *some) for name, some in words.items()],
        "example": _example(runs, out),
    }
    for name in ("report.html", "report.md"):
        text = environment(PACKAGE).get_template(f"{name}.jinja").render(context)
        write_atomically(out / name, text.encode("utf-8", "replace"))
    return out / "report.md"


def runs_table(runs: Sequence[Run]) -> Table:
    """What was run, and whether its trace is what AXPO would have done."""
    rows = [["run", "steps", "resampled prefixes", "restored subgroups", "audit"]]
    for run in runs:
        selected = sum(values.get("axpo/selected", 0) for values in run.metrics.values())
        steps = sum(step > 0 for step in run.metrics)  # 0 is the evaluation before training
        rows.append([run.name, str(steps), f"{selected:.0f}", _restored(run), _audited(run)])
    return rows


def training_table(runs: Sequence[Run]) -> Table:
    """First and last fifth of training for each arm, mean over the seeds."""
    arms = by_arm(runs)
    rows = [["", *(f"{arm}: first → last fifth" for arm in arms)]]
    for metric, words in TRAINING:
        cells = [_change([pair for run in some if (pair := ends(run, metric))]) for some in arms.values()]
        if any(cells):
            rows.append([words, *(cell or "-" for cell in cells)])
    return rows


def heldout_table(runs: Sequence[Run]) -> Table:
    """Per arm, before and after: mean over the seeds, with the lowest and highest where there are several."""
    rows = [["arm", "held-out", "Pass@1 %", _pass_at_n(runs), "tool use %", "questions x rollouts", "seeds"]]
    for arm, some in by_arm(runs).items():
        for stage in ("before", "after"):
            results = [run.heldout[stage] for run in some if stage in run.heldout]
            if results:
                sizes = sorted({f"{len(one.questions)} x {one.rollouts}" for one in results})
                rows.append([arm, stage, *_columns(results), ", ".join(sizes), str(len(results))])
    return rows if len(rows) > 1 else []


def heldout_runs_table(runs: Sequence[Run]) -> Table:
    """Every run on its own, with the standard error of Pass@1 over the questions, and what its numbers leave out."""
    head = ["run", "held-out", "Pass@1 %", "± s.e.", _pass_at_n(runs), "tool use %", "all wrong %: tool / no tool"]
    rows = [[*head, "infra failures", "without a verdict", "questions not in Pass@n"]]
    for run in runs:
        for stage, one in run.heldout.items():
            wrong = f"{_percent(one.all_wrong(uses_tool=True))} / {_percent(one.all_wrong(uses_tool=False))}"
            first, several = _range([one], "pass_at_1"), _range([one], "pass_at_n")
            rates = [first, _percent(one.standard_error), several, _percent(one.tool_use)]
            counts = map(str, (one.infra_failures, one.unscored, one.incomplete))
            rows.append([run.name, stage, *rates, wrong, *counts])
    return rows if len(rows) > 1 else []


def _pass_at_n(runs: Sequence[Run]) -> str:
    sizes = {one.rollouts for run in runs for one in run.heldout.values()}
    return f"Pass@{sizes.pop()} %" if len(sizes) == 1 else "Pass@n %"


def _columns(results: Sequence[Evaluation]) -> list[str]:
    cells = []
    for rate in ("pass_at_1", "pass_at_n", "tool_use"):
        values = [getattr(one, rate) for one in results]
        spread = "" if len(values) == 1 else f" [{_percent(min(values))}, {_percent(max(values))}]"
        cells.append(_range(results, rate) + spread)
    return cells


def _range(results: Sequence[Evaluation], rate: str) -> str:
    """The mean over the runs: answers without a verdict all wrong, and all correct where that differs."""
    ends = ([getattr(one, rate) for one in side] for side in (results, [one.generous() for one in results]))
    return in_percent(*(sum(values) / len(values) for values in ends))


def _percent(share: float) -> str:
    return in_percent(share, share)


def _change(pairs: Sequence[tuple[float, float]]) -> str:
    if not pairs:
        return ""
    first, last = (sum(side) / len(pairs) for side in zip(*pairs, strict=True))
    return f"{first:.3g} → {last:.3g}"


def _restored(run: Run) -> str:
    """Of the resampled questions of all steps, those that a continuation restored."""
    if run.trace_dir is None:
        return "no trace"
    resampled, restored = count_restored(run.trace_dir)
    return f"{restored} of {resampled}"


def _audited(run: Run) -> str:
    if run.trace_dir is None:
        return "no trace"
    result = audit(run.trace_dir)
    return f"{len(result.differences) or 'no'} differences in {result.trajectories} trajectories"


def _example(runs: Sequence[Run], out: Path) -> Example | None:
    """One restored subgroup, its picture copied beside the plots."""
    found = (find_example(run.trace_dir, out / "plots" / "example.png") for run in runs if run.trace_dir)
    return next((one for one in found if one), None)
