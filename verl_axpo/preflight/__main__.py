"""`python -m verl_axpo.preflight PLAN`: check a recipe's plan file; recipes call it before anything runs.

Exits with 0 when all is well, with 1 when something has to be changed.
"""

import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from verl_axpo.preflight.check import check_plan
from verl_axpo.preflight.machine import check_machine
from verl_axpo.preflight.problems import show
from verl_axpo.preflight.recipes import find_recipe, plan_of
from verl_axpo.preflight.report import findings_of, show_plan
from verl_axpo.preflight.stages import Stage, read_plan

WIDTH = 140  # without a terminal: no line of a table is folded


def run(stages: Sequence[Stage], *, starting: bool, ray: bool = True) -> bool:
    """Check, print, and say whether all is well.

    Args:
        stages: of a recipe, in order.
        starting: on this machine, right after this; otherwise it is only a plan.
        ray: with `starting`, also look inside a Ray worker.
    """
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    reports = check_plan(stages, starting=starting)
    show_plan(console, reports)
    return show(console, chain(findings_of(reports), check_machine(reports, ray=ray) if starting else ()))


def examine(recipe: str, *, ray: bool) -> bool:
    """`verl-axpo doctor --recipe`: what the recipe itself would check before it starts, with its present variables."""
    return run(plan_of(find_recipe(recipe)), starting=True, ray=ray)


def main(
    plan: Annotated[Path, typer.Argument(help="What a recipe wrote, one stage a line.")],
    starting: Annotated[bool, typer.Option("--starting", help="It starts now: look at this machine as well.")] = False,
) -> None:
    """Check a recipe's plan."""
    if not run(read_plan(plan), starting=starting):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
