"""Several arms over several seeds, from the rows that the repository keeps: run -> row -> table, differences, plots.

    a finished run's folder -> row_of() -> a line of runs.jsonl            `verl-axpo study add`
    runs.jsonl -> read_rows() -> Run for each -> write_study() -> README.md, *.svg    `verl-axpo study report`

A row holds what the page needs: held-out answers question by question, and metrics step by step. So every number of the
page can be made again without the runs. Two kinds of test stand next to each other: over questions (were these
questions answered better?) and over seeds (would another training of this kind be better?).
"""

import hashlib
import itertools
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from math import nan
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import orjson
import scipy.stats

from verl_axpo.audit import audit
from verl_axpo.files import append_lines, write_atomically
from verl_axpo.report.compare import Signed, measure_words, paired
from verl_axpo.report.curves import curves
from verl_axpo.report.heldout import HeldOut, Stage
from verl_axpo.report.runs import Run, by_arm, load_run
from verl_axpo.report.stats import LEVEL, MEASURES, ROUNDING, Answers, Estimate, Outcome
from verl_axpo.report.table import Rows, Table
from verl_axpo.report.training import TRAINING, training_table
from verl_axpo.trace import iter_steps
from verl_axpo.training_folder import SETTINGS

KEPT = (*TRAINING, "axpo/outcome/tool_correct", "axpo/outcome/tool_wrong", "axpo/infra_failures")
DIGITS = 5  # of a metric in a row
SFT, MAIN = "sft", "axpo"  # the arm without RL; the arm that every other is compared with
HASH_CHARACTERS = 16
# Arm -> words, and the paper's Pass@1, Pass@4 at 8B: averages over MathVision, V*, VisualProbe and HR-MMSearch
ARMS: dict[str, tuple[str, str]] = {
    SFT: ("SFT", ""),
    "grpo": ("SFT + GRPO", "51.9 / 68.3"),
    "grpo_n10": ("SFT + GRPO, N=10 (+25 % rollouts)", "not in the paper"),
    "grpo_2x": ("SFT + GRPO, rollouts 2x", "52.4 / 68.2"),
    MAIN: ("SFT + AXPO", "53.9 / 70.2"),
    "entropy": ("AXPO, ranked by entropy", "not in the paper"),
    "scratch": ("AXPO, no prefix fix", "52.1 / 69.1"),
    "no_tool": ("AXPO, no-tool target", "51.7 / 65.9"),
    "random": ("AXPO, random ranking", "51.0 / 65.8"),
    "no_prefix_credit": ("AXPO, no prefix credit", "51.4 / 67.7"),
    "merged": ("AXPO, merged groups", "51.2 / 67.0"),
    "tool_bonus": ("GRPO, tool bonus", "50.8 / 65.6"),
    "tool_penalty": ("GRPO, tool penalty", "46.0 / 59.1"),
    "cispo": ("CISPO", "47.8 / 62.2"),
}
SEEDS_OF = dict.fromkeys(ARMS, 3) | dict.fromkeys((SFT, "grpo", "grpo_n10", "grpo_2x", MAIN), 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRun:
    """One row. `facts`: commit, hashes of settings and SFT model, machine, audit, tokens, seconds."""

    run: Run
    facts: Mapping[str, Any]


# ------------------------------ run -> row ------------------------------


def row_of(folder: Path, arm: str, seed: int, sft: Path) -> dict[str, Any]:
    """What the study keeps of a finished run.

    Raises:
        ValueError: an unknown arm, no held-out result, or an audit with a difference.
    """
    _check_arm(arm)
    run, result = load_run(folder), audit(folder / "trace")
    if result.differences:
        raise ValueError(
            f"study: the audit of {folder} finds {len(result.differences)} differences; see verl-axpo audit"
        )
    if "after" not in run.heldout:
        raise ValueError(f"study: {folder} has no held-out result after training; the study needs trainer.test_freq")
    steps = [step for step in run.metrics if step > 0]
    return {
        "arm": arm,
        "seed": seed,
        "commit": _commit(),
        "settings": _settings_hash(folder / "checkpoints" / SETTINGS),
        "sft": _file_hash(sft / "model.safetensors"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "steps": len(steps),
        "seconds": round(sum(run.series("timing_s/step").values())),
        "tokens": _tokens(folder / "trace"),
        "audit": {"trajectories": result.trajectories, "differences": 0},
        "heldout": {stage: _packed(held) for stage, held in run.heldout.items()},
        "metrics": {name: _values(run, name, steps) for name in KEPT if run.series(name)},
    }


def _packed(held: HeldOut) -> dict[str, list[str]]:
    """uid -> for each rollout whether it is right, and whether it uses a tool, as digits; "-" without a verdict."""
    return {
        uid: ["".join("-01"[1 + right if right is not None else 0] for right, _ in group),
              "".join("01"[used] for _, used in group)]
        for uid, group in held.questions.items()
    }  # fmt: skip


def _values(run: Run, name: str, steps: Sequence[int]) -> list[float | None]:
    series = run.series(name)
    return [round(series[step], DIGITS) if step in series else None for step in steps]


def _tokens(trace: Path) -> dict[str, int]:
    """Tokens that the policy generated, in rollouts and in continuations (without the prefix)."""
    totals = {"rollouts": 0, "resamples": 0}
    for step in iter_steps(trace, tokens=False):
        for record in step.records:
            made, kind = sum(record.turn_lengths or ()), f"{record.kind}s"
            totals[kind] += made - (record.prefix_len or 0) * (record.source_session is not None)
    return totals


def _settings_hash(path: Path) -> str:
    """Names the settings; folders are left out, so that it is the same on every machine."""
    settings = orjson.loads(path.read_bytes())["settings"]
    kept = {key: value for key, value in settings.items() if not str(value).startswith("/")}
    return hashlib.sha256(orjson.dumps(kept, option=orjson.OPT_SORT_KEYS)).hexdigest()[:HASH_CHARACTERS]


def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:HASH_CHARACTERS]


def _commit() -> str:
    git = ["git", "-C", str(Path(__file__).parents[2])]
    commit = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=False)
    return commit.stdout.strip() or "unknown"


def add(rows: Path, folder: Path, arm: str, seed: int, sft: Path) -> list[str]:
    """Append the run's row, and the row of the SFT model where the run validated before it trained; returns the arms.

    Raises:
        ValueError: see `row_of`; or the row is there already.
    """
    if has(rows, arm, seed):
        raise ValueError(f"study: {rows} has a row of {arm}, seed {seed}; remove it to replace it")
    row = row_of(folder, arm, seed, sft)
    before = row["heldout"].pop("before", None)
    lines = [row]
    if before is not None and not has(rows, SFT, seed):
        shared = {key: row[key] for key in ("seed", "commit", "sft", "machine")}
        lines.insert(0, {"arm": SFT, **shared, "steps": 0, "heldout": {"after": before}, "metrics": {}})
    rows.parent.mkdir(parents=True, exist_ok=True)
    append_lines(rows, [orjson.dumps(line) for line in lines], flush=True)
    return [str(line["arm"]) for line in lines]


def has(rows: Path, arm: str, seed: int) -> bool:
    """Whether there is such a row."""
    _check_arm(arm)
    return any((study.run.arm, study.run.seed) == (arm, seed) for study in read_rows(rows))


def _check_arm(arm: str) -> None:
    if arm not in ARMS:
        raise ValueError(f"study: got the arm {arm!r}; choose from {list(ARMS)}")


# ------------------------------ rows -> page ------------------------------


def read_rows(path: Path) -> list[StudyRun]:
    """The rows in their order; none without the file.

    Raises:
        ValueError: a line that is no row.
    """
    lines = path.read_bytes().splitlines() if path.exists() else []
    try:
        return [_study_run(orjson.loads(line)) for line in lines if line.strip()]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: a line is no row of the study ({error!r}); remove it, and run its arm again"
        ) from error


def _study_run(row: dict[str, Any]) -> StudyRun:
    stages: dict[Stage, HeldOut] = {stage: _unpacked(packed) for stage, packed in row.pop("heldout").items()}
    metrics: dict[int, dict[str, float]] = {step: {} for step in range(1, row["steps"] + 1)}
    for name, values in row.pop("metrics").items():
        for step, value in enumerate(values, 1):
            if value is not None:
                metrics[step][name] = value
    _check_arm(row["arm"])
    run = Run(
        path=Path(f"{row['arm']}_seed{row['seed']}"), arm=row["arm"], seed=row["seed"], metrics=metrics, heldout=stages
    )
    return StudyRun(run=run, facts=row)


def _unpacked(packed: Mapping[str, Sequence[str]]) -> HeldOut:
    verdicts = {"-": None, "0": False, "1": True}
    questions = {
        uid: [Outcome(verdicts[right], used == "1") for right, used in zip(rights, uses, strict=True)]
        for uid, (rights, uses) in packed.items()
    }
    return HeldOut(questions=questions, rollouts=max(map(len, questions.values())))


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
    """Mean over the seeds ± their standard deviation, in percent."""
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
            "audit": _audited(study.facts),
        }
        for study in studies
    ]
    return Table(name="provenance", rows=rows)


def _audited(facts: Mapping[str, Any]) -> str:
    if "audit" not in facts:
        return ""
    return f"{facts['audit']['differences']} differences in {facts['audit']['trajectories']} trajectories"


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
    figures = [*curves(trained)] if trained else []
    out.mkdir(parents=True, exist_ok=True)
    for figure in figures:
        (out / f"{figure.name}.svg").write_bytes(figure.content)
    held = runs[0].heldout["after"]
    template = resources.files("verl_axpo.report") / "templates" / "study.md.jinja"
    text = jinja2.Template(template.read_text(), keep_trailing_newline=True).render(
        questions=len(held.uids),
        rollouts=held.rollouts,
        missing=_missing(runs),
        arms=arms_table(studies).markdown(),
        differences=_or_none(differences_table(studies)),
        training=_or_none(training_table(trained)),
        plots="\n\n".join(f"![{figure.title}]({figure.name}.svg)" for figure in figures),
        provenance=provenance_table(sorted(studies, key=_order)).markdown(),
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
