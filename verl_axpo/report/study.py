"""Several arms over several seeds, as rows that the repository keeps.

    a finished run's folder -> row_of() -> a line of runs.jsonl    `verl-axpo study add`
    runs.jsonl -> read_rows() -> a `StudyRun` for each             study_page.py

A row holds what the page needs: held-out answers question by question, and metrics step by step. So every number of the
page can be made again without the runs.
"""

import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from verl_axpo.audit import audit
from verl_axpo.files import append_lines, read_lines, sha256_of
from verl_axpo.report.coverage import generated
from verl_axpo.report.heldout import HeldOut, Stage
from verl_axpo.report.runs import Run, load_run
from verl_axpo.report.stats import Outcome
from verl_axpo.report.training import TRAINING
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


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRun:
    """One row. `facts`: commit, hashes of settings and SFT model, machine, audit, tokens, seconds."""

    run: Run
    facts: Mapping[str, Any]


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
        "sft": _model_hash(sft),
        "machine": _machine(),
        "steps": len(steps),
        "seconds": round(sum(run.series("timing_s/step").values())),
        "tokens": tokens_of(folder / "trace"),
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


def tokens_of(trace: Path) -> dict[str, int]:
    """Tokens that the policy generated, in rollouts and in continuations (without a prefix that they were given)."""
    totals = {"rollouts": 0, "resamples": 0}
    for step in iter_steps(trace, tokens=False):
        if step.summary is None:  # the run was killed in it
            continue
        for record in step.records:
            totals[f"{record.kind}s"] += generated(record, step.summary.config)
    return totals


def _settings_hash(path: Path) -> str:
    """Names the settings; folders are left out, so that it is the same on every machine."""
    settings = orjson.loads(path.read_bytes())["settings"]
    kept = {key: value for key, value in settings.items() if not str(value).startswith("/")}
    return hashlib.sha256(orjson.dumps(kept, option=orjson.OPT_SORT_KEYS)).hexdigest()[:HASH_CHARACTERS]


def _machine() -> str:
    """The processor too: on another one SFT may round differently, and end in another model."""
    said = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    facts = dict(re.findall(r"^(model name|cpu family|model)\s*: (.+)$", said, re.MULTILINE))
    processor = "{model name}, family {cpu family}, model {model}".format(**facts) if len(facts) == 3 else "unknown"
    return f"{os.cpu_count()} cores, {platform.machine()}, {processor}"


def _model_hash(model: Path) -> str:
    return sha256_of(model / "model.safetensors")[:HASH_CHARACTERS]


def _commit() -> str:
    git = ["git", "-C", str(Path(__file__).parents[2])]
    commit = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=False)
    return commit.stdout.strip() or "unknown"


def add(rows: Path, folder: Path, arm: str, seed: int, sft: Path) -> list[str]:
    """Append the run's row, and the row of the SFT model where the run validated before it trained; returns the arms.

    Raises:
        ValueError: see `row_of` and `has`; or the row is there already.
    """
    if has(rows, arm, seed, sft):
        raise ValueError(f"study: {rows} has a row of {arm}, seed {seed}; remove it to replace it")
    row = row_of(folder, arm, seed, sft)
    before = row["heldout"].pop("before", None)
    lines = [row]
    if before is not None and not has(rows, SFT, seed, sft):
        shared = {key: row[key] for key in ("seed", "commit", "sft", "machine")}
        lines.insert(0, {"arm": SFT, **shared, "steps": 0, "heldout": {"after": before}, "metrics": {}})
    rows.parent.mkdir(parents=True, exist_ok=True)
    append_lines(rows, [orjson.dumps(line) for line in lines], flush=True)
    return [str(line["arm"]) for line in lines]


def has(rows: Path, arm: str, seed: int, sft: Path) -> bool:
    """Whether there is such a row.

    Raises:
        ValueError: an unknown arm, or the rows there are started from another SFT model.
    """
    _check_arm(arm)
    there, model = read_rows(rows), _model_hash(sft)
    if others := {str(study.facts["sft"]) for study in there} - {model}:
        raise ValueError(
            f"study: {rows} has runs of the SFT model {', '.join(sorted(others))}, and {sft} is {model}; keep runs of "
            "another model or world in a file of their own (--rows)"
        )
    return any((study.run.arm, study.run.seed) == (arm, seed) for study in there)


def _check_arm(arm: str) -> None:
    if arm not in ARMS:
        raise ValueError(f"study: got the arm {arm!r}; choose from {list(ARMS)}")


def read_rows(path: Path) -> list[StudyRun]:
    """The rows in their order; none without the file.

    Raises:
        ValueError: a line that is no row.
    """
    if not path.exists():
        return []
    try:
        return [line.value for line in read_lines(path, _study_run, at_once=True)]
    except ValueError as error:
        raise ValueError(f"{error}; a line is no row of the study: remove it, and run its arm again") from error


def _study_run(line: bytes) -> StudyRun:
    row: dict[str, Any] = orjson.loads(line)
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
