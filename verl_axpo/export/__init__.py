"""What a run holds, in the formats of other programs.

a training's trace, or an evaluation -> inspect_log -> a log for `inspect view`
"""

from importlib.util import find_spec
from pathlib import Path

from verl_axpo.eval.store import MANIFEST
from verl_axpo.trace import read_step
from verl_axpo.trace.reader import list_steps

SUFFIXES = (".eval", ".json")


def to_inspect(folder: Path, trace_dir: Path, out: Path, step: int | None = None) -> int:
    """Write a log of Inspect; returns its number of samples.

    Args:
        folder: of an evaluation, or of a training.
        trace_dir: of the training's trace.
        out: ends in `.eval` or `.json`.
        step: of a training; None means its last one. A step is in memory as a whole.

    Raises:
        ValueError: `inspect_ai` is missing, a wrong ending, no such step, or a step for an evaluation.
    """
    if out.suffix not in SUFFIXES:
        raise ValueError(f"out: got {out}, expected a name that ends in one of {list(SUFFIXES)}")
    if find_spec("inspect_ai") is None:
        raise ValueError(
            "export to inspect: the package inspect_ai is missing; run `pip install 'verl-axpo[inspect]'` in an "
            "environment of its own (docs/tracking.md), which needs no verl"
        )
    from verl_axpo.export import inspect_log

    if (folder / MANIFEST).exists():
        if step is not None:
            raise ValueError(f"export: {folder} is an evaluation, which has no steps; leave --step {step} out")
        log = inspect_log.evaluation_log(folder)
    else:
        steps = list_steps(trace_dir)
        if not steps:
            raise ValueError(
                f"export: got {folder}, expected the folder of a training with a trace or of an evaluation"
            )
        traced = read_step(trace_dir, steps[-1] if step is None else step)
        log = inspect_log.training_log(traced, trace_dir, folder.resolve().name)
    inspect_log.write(log, out)
    return len(log.samples or ())
