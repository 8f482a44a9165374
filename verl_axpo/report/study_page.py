"""The study's page: rows -> a table of the arms, differences, plots -> README.md, *.svg    `verl-axpo study report`

Two kinds of test stand next to each other: over questions (were these questions answered better?) and over seeds (would
another training of this kind be better?).
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats

from verl_axpo.files import write_atomically
from verl_axpo.report.build import templates
from verl_axpo.report.compare import Signed, measure_words, paired
from verl_axpo.report.curves import curves
from verl_axpo.report.runs import Run, by_arm
from verl_axpo.report.stats import LEVEL, MEASURES, ROUNDING, Answers, Estimate
from verl_axpo.report.study import ARMS, MAIN, SFT, StudyRun, read_rows
from verl_axpo.report.study_plot import COLORS, comparison
from verl_axpo.report.table import Rows, Table
from verl_axpo.report.training import training_table

SEEDS_OF = dict.fromkeys(ARMS, 3) | dict.fromkeys(COLORS, 5)


def arms_table(studies: Sequence[StudyRun]) -> Table:
    """The paper's layout: an arm per row, those without a run too."""
    rows: Rows = []
    for arm, (words, paper) in ARMS.items():
        group = [study for study in studies if study.run.arm == arm]
        row: dict[str, Any] = {"arm": words, "seeds": f"{len(group)} of {SEEDS_OF[arm]}"}
        if group:
            held = [study.run.heldout["after"] for study in group]
            row |= {f"{word} %": _mean_sd([one.estimate(measure).value for one in held])
                    for measure, word in measure_words(held[0].rollouts).items()}  # fmt: skip
            row |= {"tool all wrong %": _mean_sd([one.all_wrong(uses_tool=True) for one in held])}
            row |= {"no-tool all wrong %": _mean_sd([one.all_wrong(uses_tool=False) for one in held])}
            row |= _costs([study.facts for study in group])
        row["paper, 8B: P@1 / P@4"] = paper
        rows.append(row)
    return Table(name="arms", rows=rows)


def _mean_sd(shares: Sequence[float]) -> str:
    """Mean ± standard deviation over the seeds that have such a share, in percent; "-" if none has."""
    shares = [share for share in shares if not isnan(share)]
    if not shares:
        return "-"
    spread = f" ± {100 * float(np.std(shares, ddof=1)):.1f}" if len(shares) > 1 else ""
    return f"{100 * float(np.mean(shares)):.1f}{spread}"


def _costs(facts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    trained = [fact for fact in facts if "tokens" in fact]
    if not trained:
        return {}
    tokens = np.mean([sum(fact["tokens"].values()) for fact in trained]) / 1000
    return {"tokens, thousands": f"{tokens:.0f}", "seconds": f"{np.mean([fact['seconds'] for fact in trained]):.0f}"}


def differences_table(studies: Sequence[StudyRun]) -> Table:
    """AXPO minus each other arm, on the seeds that both have, after training."""
    of = {(study.run.arm, study.run.seed): study.run.heldout["after"] for study in studies}
    rows: Rows = []
    for arm, (words, _) in ARMS.items():
        seeds = sorted(seed for name, seed in of if name == arm and (MAIN, seed) in of and seed is not None)
        if arm == MAIN or not seeds:
            continue
        sides = [of[arm, seed] for seed in seeds], [of[MAIN, seed] for seed in seeds]
        k = min(held.rollouts for side in sides for held in side)
        for measure in MEASURES:
            rows.append({"AXPO minus": words, "measure": measure_words(k)[measure], **_difference(sides, measure, k)})
    return Table(name="differences", rows=rows)


def _difference(sides: tuple[Sequence[Answers], Sequence[Answers]], measure: str, k: int) -> dict[str, Any]:
    over_questions = paired([sides], measure, k).difference
    by_seed = [paired([([a], [b])], measure, k).difference.delta.value for a, b in zip(sides[0], sides[1], strict=True)]
    low, high = seed_interval(by_seed)
    over_seeds = Estimate(value=float(np.mean(by_seed)), at_most=float(np.mean(by_seed)), low=low, high=high)
    return {
        "seeds": len(by_seed),
        "points [95 % over questions]": _signed(over_questions.delta),
        "p, questions": over_questions.p_value,
        "points [95 % over seeds]": _signed(over_seeds),
        "p, seeds": seed_test(by_seed),
    }


def _signed(delta: Estimate) -> str:
    return str(Signed(**asdict(delta)))


def seed_interval(differences: Sequence[float]) -> tuple[float, float]:
    """Student's interval of the mean of paired differences; NaN of fewer than two.

    Example: `seed_interval([0.0, 0.2])` is 0.1 ± 12.706 * 0.1
    """
    if len(differences) < 2:
        return nan, nan
    error = float(np.std(differences, ddof=1)) / len(differences) ** 0.5
    reach = float(scipy.stats.t.ppf((1 + LEVEL) / 2, len(differences) - 1)) * error
    mean = float(np.mean(differences))
    return mean - reach, mean + reach


def seed_test(differences: Sequence[float]) -> float:
    """The exact two-sided permutation test that swaps the arms of each seed; with 5 seeds p is at least 1 / 16.

    Example: `seed_test([0.1, 0.2]) == 0.5`
    """
    seen = abs(sum(differences)) - ROUNDING
    signs = itertools.product((1, -1), repeat=len(differences))
    sums = [abs(sum(sign * value for sign, value in zip(flips, differences, strict=True))) for flips in signs]
    return sum(total >= seen for total in sums) / len(sums)


def provenance_table(studies: Iterable[StudyRun]) -> Table:
    """Where each row comes from."""
    rows: Rows = [
        {
            "run": study.run.name,
            "commit": study.facts["commit"],
            "settings": study.facts.get("settings", ""),
            "SFT model": study.facts["sft"],
            "steps": study.facts["steps"],
            "audit": "{differences} differences in {trajectories} trajectories".format(**study.facts["audit"])
            if "audit" in study.facts
            else "",
        }
        for study in studies
    ]
    return Table(name="provenance", rows=rows)


def write_study(rows: Path, out: Path) -> Path:
    """README.md and its plots; returns the former.

    Raises:
        ValueError: no rows.
    """
    studies = read_rows(rows)
    if not studies:
        raise ValueError(f"study: {rows} has no rows; run bash recipes/study.sh")
    runs = [study.run for study in sorted(studies, key=_order)]
    trained = [run for run in runs if run.arm != SFT]
    drawn = [run for run in trained if run.arm in COLORS]  # more lines than these would hide each other
    figures = [comparison(studies), *(curves(drawn) if drawn else ())]
    out.mkdir(parents=True, exist_ok=True)
    for figure in figures:
        (out / f"{figure.name}.svg").write_bytes(figure.content)
    held = runs[0].heldout["after"]
    text = (
        templates()
        .get_template("study.md.jinja")
        .render(
            questions=len(held.uids),
            rollouts=held.rollouts,
            missing=_missing(runs),
            arms=arms_table(studies).markdown(),
            differences=_or_none(differences_table(studies)),
            training=_or_none(training_table(drawn)),
            others=_or_none(training_table([run for run in trained if run.arm not in COLORS], ["last"])),
            plots="\n\n".join(f"![{figure.title}]({figure.name}.svg)" for figure in figures[1:]),
            provenance=provenance_table(sorted(studies, key=_order)).markdown(),
        )
    )
    path = out / "README.md"
    write_atomically(path, text.encode())
    return path


def _order(study: StudyRun) -> tuple[int, int]:
    return list(ARMS).index(study.run.arm), study.run.seed or 0


def _missing(runs: Sequence[Run]) -> str:
    groups = by_arm(runs)
    short = [f"{words} ({len(groups.get(arm, []))} of {SEEDS_OF[arm]})" for arm, (words, _) in ARMS.items()
             if len(groups.get(arm, [])) < SEEDS_OF[arm]]  # fmt: skip
    if not short:
        return "All planned runs are there."
    return "**Not complete**, for want of machine time. Seeds so far: " + "; ".join(short) + "."


def _or_none(table: Table) -> str:
    return table.markdown() if table.rows else "No such runs yet."
