"""`python -m verl_axpo.preflight PLAN`: check a recipe's plan file; recipes/common.sh calls it before anything runs.

Exits with 0 when all is well, with 1 when something has to be changed.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from verl_axpo.preflight.check import check_plan
from verl_axpo.preflight.report import findings_of, show_findings, show_plan
from verl_axpo.preflight.stages import read_plan

WIDTH = 140  # without a terminal: no line of a table is folded


def run(plan: Path, base_model: str, *, machine: bool, starting: bool) -> bool:
    """Check, print, and say whether all is well.

    Args:
        plan: the file that a recipe wrote.
        base_model: hub id, folder or `tiny`: the model that the recipe starts from.
        machine: also look at this machine.
        starting: the recipe starts right after this.
    """
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    reports = check_plan(read_plan(plan), base_model, starting=starting)
    show_plan(console, reports)
    findings = findings_of(reports)
    if machine:
        from verl_axpo.preflight.machine import check_machine

        findings += check_machine(reports)
    show_findings(console, findings)
    return all(one.ok for one in findings)


def main(
    plan: Annotated[Path, typer.Argument(help="What a recipe wrote, one stage a line.")],
    base_model: Annotated[str, typer.Option(help="Hub id, folder or `tiny`: what the recipe starts from.")],
    machine: Annotated[bool, typer.Option("--machine", help="Also look at this machine; the recipe starts now.")] = False,
) -> None:
    """Check a recipe's plan."""
    if not run(plan, base_model, machine=machine, starting=machine):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
