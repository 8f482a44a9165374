"""After a finished RL run: verl's own files -> the ones that the report reads.

RUN/metrics_*.jsonl (one per start of a resumed run) -> RUN/metrics.jsonl
RUN/heldout/{0,STEPS}.jsonl (validation dumps)       -> RUN/heldout.json, of those that the run made
--arm, --seed                                        -> RUN/run.json
"""

import json
from pathlib import Path

from verl_axpo.files import write_atomically
from verl_axpo.report.heldout import FILE_NAME, Stage, evaluation_from_dump, write_heldout
from verl_axpo.report.runs import logged, write_run_info


def merge_metrics(run: Path) -> int:
    """One line per step, the latest start's where a resumed run did a step again.

    Returns:
        how many steps.
    """
    by_step: dict[int, dict[str, float]] = {}
    for step, values in logged(run, "metrics_*.jsonl"):
        by_step.setdefault(step, {}).update(values)
    merged = "".join(json.dumps({"step": step, "data": by_step[step]}) + "\n" for step in sorted(by_step))
    write_atomically(run / "metrics.jsonl", merged.encode())
    return len(by_step)


def merge_heldout(run: Path, steps: int) -> None:
    """Put the validations from before and after the training into one file; a run may have been told to make none."""
    (run / FILE_NAME).unlink(missing_ok=True)  # of an earlier end, of fewer steps
    dumps: dict[Stage, int] = {"before": 0, "after": steps}
    for stage, step in dumps.items():
        dump = run / "heldout" / f"{step}.jsonl"
        if dump.exists():
            write_heldout(run, stage, evaluation_from_dump(dump))
        else:
            print(f"no validation {stage} the training (no {dump}): the report goes without it")


def finish(run: Path, arm: str, seed: int, steps: int) -> None:
    """Write the three files."""
    merge_metrics(run)
    merge_heldout(run, steps)
    write_run_info(run, arm, seed)
