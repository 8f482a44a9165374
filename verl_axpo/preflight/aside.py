"""Rollouts of other weights step aside: `python -m verl_axpo.preflight.aside RUN CHECKPOINT`, RUN -> RUN.1 (.2, ...).

`verl-axpo eval run` goes on with what a folder holds, and refuses one whose checkpoint has been trained on since. A
recipe knows that its checkpoint is meant; what was sampled of the old one is kept, under another name.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from verl_axpo.eval.manifest import FILE_NAME, read_manifest
from verl_axpo.eval.weights import weights_hash


def step_aside(run: Path, checkpoint: Path) -> Path | None:
    """Rename the run's folder if it was made with other weights.

    Returns:
        where it is now; None if it stays, or there is none.
    """
    if not (run / FILE_NAME).exists() or read_manifest(run).settings.get("weights") == weights_hash(checkpoint):
        return None
    number = 1
    while (target := run.with_name(f"{run.name}.{number}")).exists():
        number += 1
    return run.rename(target)


def main(
    run: Annotated[Path, typer.Argument(help="The --out folder of `verl-axpo eval run`.")],
    checkpoint: Annotated[Path, typer.Argument(help="Of which its rollouts are to be.")],
) -> None:
    """Move a run of other weights out of the way."""
    target = step_aside(run, checkpoint)
    if target is not None:
        Console(stderr=True).print(
            f"{run} has rollouts of other weights than {checkpoint}: now {target}", soft_wrap=True
        )


if __name__ == "__main__":
    typer.run(main)
