"""The `verl-axpo` command: words in, Rich tables out.

A user's mistake (`ValueError`) or the failure of a disk or a service prints its fix without a traceback and exits with
2; a finding (an audit difference, an unhealthy environment) exits with 1. Heavy imports wait until their command runs.
"""

import os
import shlex
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

import verl_axpo
from verl_axpo.data import cli as data
from verl_axpo.errors import InfraFailure
from verl_axpo.eval.cli import app as evaluation

FINDING, MISTAKE = 1, 2  # exit statuses
MOST_LINES = 50  # of differences; the first ones say what is wrong

# Plain help: Rich's cuts options where there is no wide terminal. Sub-commands inherit the settings of their context.
HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 120}
app = typer.Typer(
    name="verl-axpo", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="AXPO for verl.",
    rich_markup_mode=None, context_settings=HELP,
)  # fmt: skip
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


def _print_version(wanted: bool) -> None:
    if wanted:
        console.print(f"verl-axpo {verl_axpo.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """AXPO for verl."""


@app.command(context_settings={"ignore_unknown_options": True})
def check(
    command: Annotated[
        list[str], typer.Argument(help="A command of verl, as you would start it.", metavar="-- COMMAND")
    ],
    made: Annotated[list[Path] | None, typer.Option(help="A folder that earlier commands fill; repeat.")] = None,
    machine: Annotated[bool, typer.Option("--machine/--no-machine", help="Look at this machine as well.")] = True,
) -> None:
    """Find what would stop a command of verl.

    Composes its config, validates it, looks at files and at this machine; starts nothing.
    """
    from verl_axpo.check import check as examine
    from verl_axpo.doctor import show

    console.print(shlex.join(command), markup=False, highlight=False, soft_wrap=True)
    if not show(console, examine(command, made or (), machine=machine)):
        raise typer.Exit(FINDING)


@app.command(context_settings={"ignore_unknown_options": True})
def run(
    command: Annotated[list[str], typer.Argument(help="The command.", metavar="-- COMMAND")],
    title: Annotated[str, typer.Option(help="What the progress bar calls it.")] = "run",
    log: Annotated[Path, typer.Option(help="Where a training's output goes.")] = Path("run.log"),
) -> None:
    """Check a command and run it, with a bar and a log.

    A training goes on only with the settings that it began with.
    """
    from verl_axpo import launch

    raise typer.Exit(launch.run(command, title, log, console))


@app.command()
def doctor(
    ray: Annotated[bool, typer.Option("--ray", help="Look inside a Ray worker (starts a small Ray).")] = False,
) -> None:
    """Can this machine train with AXPO? Each line has its fix."""
    from verl_axpo import doctor as checks

    address = os.environ.get("RAY_ADDRESS", "")
    if not checks.show(console, chain(checks.examine(), checks.check_ray_worker(address) if ray else ())):
        raise typer.Exit(FINDING)


@app.command()
def audit(folder: RunOrTrace) -> None:
    """Recompute every decision and advantage from a trace.

    Trigger, ranking, allocation, masks, advantages, metrics; exits with 1 on any difference.
    """
    from verl_axpo.audit import audit as recompute

    result = recompute(trace_of(folder))
    for note in result.notes:
        console.print(f"[yellow]note[/] {escape(note)}", soft_wrap=True)
    for difference in result.differences[:MOST_LINES]:
        console.print(f"[bold red]difference[/] {escape(str(difference))}", soft_wrap=True)
    found = len(result.differences)
    if found > MOST_LINES:
        console.print(f"... and {found - MOST_LINES} more")
    console.print(f"{result.steps} steps, {result.trajectories} trajectories, {found} differences")
    if found:
        raise typer.Exit(FINDING)


@app.command()
def view(
    folder: RunOrTrace,
    step: Annotated[int, typer.Option(help="Which step.")],
    uid: Annotated[str | None, typer.Option(help="One question in full; without it the step's questions.")] = None,
) -> None:
    """Show the questions of a step, or one question in full.

    In full: its rollouts, prefixes, continuations, rewards and advantages.
    """
    from verl_axpo.report.viewer import view as render

    console.print(render(trace_of(folder), step, uid))


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="One folder per run.", metavar="DIR")],
    out: Annotated[Path | None, typer.Option(help="Where to write; the run's folder, for a single one.")] = None,
    title: Annotated[str, typer.Option(help="The report's headline.")] = "AXPO run",
    arm: Annotated[str | None, typer.Option(help="Of a run that has just ended: gather verl's files first.")] = None,
    seed: Annotated[int, typer.Option(help="With --arm: the run's seed.")] = 0,
) -> None:
    """Write the report of one run, or of several side by side.

    Makes report.md, report.html and plots.
    """
    from verl_axpo.launch import trained
    from verl_axpo.report.build import build_report
    from verl_axpo.report.finish import finish

    if out is None and len(folders) > 1:
        raise ValueError(f"report: got {len(folders)} runs and no place for their report; add --out DIR")
    if arm is not None:
        for folder in folders:
            finish(folder, arm, seed, trained(folder / "checkpoints"))
    with console.status("reading runs, drawing plots"):
        path = build_report(folders, out or folders[0], title)
    console.print(f"wrote {path} and {path.with_suffix('.html').name}", soft_wrap=True)


def trace_of(folder: Path) -> Path:
    """The trace of a run's folder, or the folder itself if it is a trace."""
    inside = folder / "trace"
    return inside if inside.is_dir() else folder
