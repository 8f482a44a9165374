"""A run on disk -> what the report needs of it: arm, seed, metrics by step, held-out result.

DIR/metrics*.jsonl  verl's `file` logger: {"step": 3, "data": {"axpo/tool_use_rate": 0.31, ...}} per line; it starts its
                    file over, so a resumed run keeps earlier ones under other names; the newest file wins
DIR/trace/          fills in the steps that are in no such file
DIR/heldout.json    see `heldout.py`
DIR/run.json        {"arm": "axpo", "seed": 1}; without it the folder's name says so: axpo_seed1, axpo/seed_1

`finish` makes metrics.jsonl, heldout.json and run.json of what verl leaves: metrics_*.jsonl (one per start of a resumed
run) and heldout/{0,STEPS}.jsonl (validation dumps).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verl_axpo.files import read_lines, write_atomically
from verl_axpo.report.heldout import FILE_NAME, HeldOut, Stage, evaluation_from_dump, read_heldout, write_heldout
from verl_axpo.trace import list_steps
from verl_axpo.trace.reader import read_summary

TRAINED = "training/global_step"  # verl logs it with every training step, and not with a validation on its own
_SEEDED = re.compile(r"(?P<arm>.*?)[_-]?(?:seed|s)[_-]?(?P<seed>\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training run. `metrics[step][name]` is a number as logged; step 0 is the validation before training."""

    path: Path
    arm: str
    seed: int | None
    metrics: Mapping[int, Mapping[str, float]]
    heldout: Mapping[Stage, HeldOut]

    @property
    def name(self) -> str:
        """Arm and seed, for tables."""
        return self.arm if self.seed is None else f"{self.arm}, seed {self.seed}"

    @property
    def trace_dir(self) -> Path | None:
        """The run's trace, if it left one."""
        folder = self.path / "trace"
        return folder if folder.is_dir() and list_steps(folder) else None

    def series(self, metric: str) -> dict[int, float]:
        """A metric's values by step, ascending."""
        return {step: values[metric] for step, values in self.metrics.items() if metric in values}


def load_runs(folders: Sequence[str | Path]) -> list[Run]:
    """Read several runs.

    Raises:
        ValueError: a folder is given twice, which would count as two seeds, or holds no run.
    """
    resolved = [Path(folder).resolve() for folder in folders]
    twice = [str(folder) for folder, path in zip(folders, resolved, strict=True) if resolved.count(path) > 1]
    if twice:
        raise ValueError(f"report: {twice[0]} is there {len(twice)} times; give each run once")
    return [load_run(folder) for folder in folders]


def load_run(run_dir: str | Path) -> Run:
    """Read a run's folder.

    Raises:
        ValueError: there is no such folder, or nothing of a run in it.
    """
    path = Path(run_dir)
    metrics = _metrics(path) if path.is_dir() else {}
    heldout = read_heldout(path)
    if not metrics and not heldout:
        raise ValueError(
            f"report: got {path}, expected a run's folder with metrics.jsonl, trace/ or heldout.json; "
            "give one folder per run, not the folder above them"
        )
    arm, seed = _arm_and_seed(path)
    return Run(path=path, arm=arm, seed=seed, metrics=metrics, heldout=heldout)


def by_arm(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each arm, arms in order of first appearance."""
    return {arm: [run for run in runs if run.arm == arm] for arm in dict.fromkeys(run.arm for run in runs)}


def finish(run: Path, arm: str, seed: int, steps: int) -> list[str]:
    """After a run of so many steps: write its metrics.jsonl, heldout.json and run.json; returns what is missing."""
    missing = []
    merge_metrics(run)
    (run / FILE_NAME).unlink(missing_ok=True)  # of an earlier end, of fewer steps
    dumps: dict[Stage, int] = {"before": 0, "after": steps}
    for stage, step in dumps.items():
        dump = run / "heldout" / f"{step}.jsonl"
        if dump.exists():
            write_heldout(run, stage, evaluation_from_dump(dump))
        else:  # a run may have been told to make none
            missing.append(f"no validation {stage} the training (no {dump}): the report goes without it")
    write_run_info(run, arm, seed)
    return missing


def merge_metrics(run: Path) -> int:
    """One line per step, the latest start's where a resumed run did a step again; returns how many steps."""
    by_step = _latest(logged(run, "metrics_*.jsonl"))
    merged = "".join(json.dumps({"step": step, "data": by_step[step]}) + "\n" for step in sorted(by_step))
    write_atomically(run / "metrics.jsonl", merged.encode())
    return len(by_step)


def write_run_info(run_dir: str | Path, arm: str, seed: int) -> None:
    """Say which line of a comparison a run belongs to."""
    write_atomically(Path(run_dir) / "run.json", json.dumps({"arm": arm, "seed": seed}).encode())


def _arm_and_seed(path: Path) -> tuple[str, int | None]:
    info = path / "run.json"
    if info.exists():
        values = json.loads(info.read_text())
        return str(values["arm"]), int(values["seed"])
    match = _SEEDED.fullmatch(path.resolve().name)
    if match is None:
        return path.resolve().name, None
    return match["arm"] or path.resolve().parent.name, int(match["seed"])


def _metrics(path: Path) -> dict[int, dict[str, float]]:
    """Numbers by step, ascending; where the log and the trace both have one, the log's."""
    traced, log = dict(_traced(path / "trace")), _latest(logged(path))
    both = {step: {**traced.get(step, {}), **log.get(step, {})} for step in sorted(traced.keys() | log.keys())}
    return {
        step: {name: float(value) for name, value in values.items() if isinstance(value, (int, float))}
        for step, values in both.items()
    }


def _latest(log: Iterable[tuple[int, Mapping[str, Any]]]) -> dict[int, dict[str, Any]]:
    """By step: the line of the latest training of it, and what validations on their own added later."""
    by_step: dict[int, dict[str, Any]] = {}
    for step, values in log:
        trained = TRAINED in values
        by_step[step] = {**({} if trained else by_step.get(step, {})), **values}
    return by_step


def _traced(trace_dir: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for step in list_steps(trace_dir) if trace_dir.is_dir() else ():
        summary, _ = read_summary(trace_dir, step)
        if summary is not None:
            yield step, summary.metrics


def logged(run_dir: Path, files: str = "metrics*.jsonl") -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(step, numbers) of verl's file logger, the oldest file first; a line that is torn or damaged costs itself."""

    def parse(line: bytes) -> tuple[int, dict[str, Any]]:
        entry = json.loads(line)  # not orjson: verl writes NaN
        return int(entry["step"]), dict(entry["data"])

    for path in sorted(run_dir.glob(files), key=lambda path: path.stat().st_mtime_ns):
        yield from (line.value for line in read_lines(path, parse, damaged=[]))
