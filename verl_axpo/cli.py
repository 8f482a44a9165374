"""The `verl-axpo` command: `doctor`, `data`, `eval`, `audit`, `view`, `report`; words in, Rich tables out.

A user's mistake (`ValueError`) or the failure of a disk or a service prints its fix without a traceback and exits with
2; a finding (an audit difference, an unhealthy environment) exits with 1. Heavy imports wait until their command runs.
"""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from verl_axpo.data import cli as data
from verl_axpo.errors import InfraFailure
from verl_axpo.eval.cli import app as evaluation

FINDING, MISTAKE = 1, 2  # exit statuses
MOST_LINES = 20  # of differences, of notes; the first ones say what is wrong

app = typer.Typer(
    name="verl-axpo", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="AXPO for verl."
)
app.add_typer(data.app)
app.add_typer(evaluation, name="eval")
console = Console()

RunOrTrace = Annotated[Path, typer.Argument(help="A run's folder, or its trace folder.", metavar="DIR")]


def main() -> None:
    """Entry point: every command, with users' mistakes told in one line."""
    try:
        app()
    except (ValueError, OSError, InfraFailure) as error:
        console.print(f"[bold red]error[/] {escape(str(error))}", soft_wrap=True)
        raise SystemExit(MISTAKE) from None


@app.command()
def doctor(
    ray: Annotated[
        bool | None,
        typer.Option("--ray/--no-ray", help="Look inside a Ray worker (starts a small Ray); default: with --recipe."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Also check all that this recipe needs, e.g. qwen3vl8b_axpo.")
    ] = None,
) -> None:
    """Can this machine train with AXPO? Each line has its fix."""
    from verl_axpo import doctor as checks
    from verl_axpo.preflight.problems import show

    if recipe is not None:
        from verl_axpo.preflight.__main__ import examine

        healthy = examine(recipe, ray=ray is not False)
    else:
        healthy = show(console, chain(checks.examine(), checks.check_ray_worker() if ray else ()))
    if not healthy:
        raise typer.Exit(FINDING)


@app.command()
def audit(folder: RunOrTrace) -> None:
    """Recompute trigger, ranking, allocation, masks and advantages from a trace; fails on any difference."""
    from verl_axpo.audit import audit as recompute

    result = recompute(trace_of(folder))
    _print_first("[bold red]difference[/]", list(map(str, result.differences)))
    _print_first("[yellow]note[/]", result.notes)
    found = len(result.differences)
    console.print(f"{result.steps} steps, {result.trajectories} trajectories, {found} differences")
    if found:
        raise typer.Exit(FINDING)


def _print_first(title: str, lines: Sequence[str]) -> None:
    for line in lines[:MOST_LINES]:
        console.print(f"{title} {escape(line)}", soft_wrap=True)
    if len(lines) > MOST_LINES:
        console.print(f"... and {len(lines) - MOST_LINES} more of these")


@app.command()
def view(
    folder: RunOrTrace,
    step: Annotated[int, typer.Option(help="Which step.")],
    uid: Annotated[
        str | None, typer.Option(help="One question in full: its row in the list, its uid, or the uid's beginning.")
    ] = None,
) -> None:
    """Show a step's questions, or one question's rollouts, prefixes, resamples, rewards and advantages."""
    from verl_axpo.report.viewer import view as render

    console.print(render(trace_of(folder), step, uid))


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="One folder per run.", metavar="DIR...")],
    out: Annotated[Path | None, typer.Option(help="Where to write; the run's folder, for a single one.")] = None,
    title: Annotated[str, typer.Option(help="The report's headline.")] = "AXPO run",
) -> None:
    """Write report.md, report.html and plots of one run, or of several side by side."""
    from verl_axpo.report.build import build_report

    if out is None and len(folders) > 1:
        raise ValueError(f"report: got {len(folders)} runs and no place for their report; add --out DIR")
    with console.status("reading runs, drawing plots"):
        path = build_report(folders, out or folders[0], title)
    console.print(f"wrote {path} and {path.with_suffix('.html').name}", soft_wrap=True)


def trace_of(folder: Path) -> Path:
    """The trace of a run's folder, or the folder itself if it is a trace."""
    inside = folder / "trace"
    return inside if inside.is_dir() else folder
