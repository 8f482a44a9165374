"""The `verl-axpo` command line: it parses arguments, calls the function that does the work, and prints the result.

After a user's mistake (`ValueError`), or when a disk or a service fails, it prints what to do without a traceback and
exits with 2. A finding (an audit difference, an unhealthy environment) exits with 1. Heavy modules are imported only
when their command runs.
"""

import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

import verl_axpo
from verl_axpo.data import cli as data
from verl_axpo.errors import InfraFailure
from verl_axpo.eval.cli import app as evaluation
from verl_axpo.lock import FolderInUseError
from verl_axpo.report.study_cli import app as study
from verl_axpo.tools.cli import app as tools

if TYPE_CHECKING:
    from verl_axpo.findings import Finding

ExportFormat = Literal["inspect"]
FINDING, MISTAKE = 1, 2  # exit statuses
MOST_LINES = 20  # of differences, of notes; the first ones say what is wrong

# Plain help: Rich's cuts options where there is no wide terminal. Sub-commands inherit the settings of their context.
HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 120}
app = typer.Typer(
    name="verl-axpo", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="AXPO for verl.",
    rich_markup_mode=None, context_settings=HELP,
)  # fmt: skip
app.add_typer(data.app)
app.add_typer(evaluation, name="eval")
app.add_typer(study, name="study")
app.add_typer(tools, name="tools")
console = Console()

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
RunOrTrace = Annotated[Path, typer.Argument(help="A run's folder, or its trace folder.", metavar="DIR")]


def main() -> None:
    """Entry point of every command; a user's mistake prints one line, no traceback."""
    try:
        app()
    except (ValueError, OSError, InfraFailure, FolderInUseError) as error:
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
    made: Annotated[
        list[Path] | None, typer.Option(help="A folder that an earlier command will fill; may be repeated.")
    ] = None,
    machine: Annotated[bool, typer.Option("--machine/--no-machine", help="Look at this machine as well.")] = True,
    as_json: Json = False,
) -> None:
    """Find what would stop a command of verl.

    It composes and validates the config, and looks at files and at this machine. It starts nothing.
    """
    from verl_axpo.check import check as examine

    if not as_json:
        console.print(shlex.join(command), markup=False, highlight=False, soft_wrap=True)
    _tell(examine(command, made or (), machine=machine), as_json)


@app.command(context_settings={"ignore_unknown_options": True})
def run(
    command: Annotated[list[str], typer.Argument(help="The command to run.", metavar="-- COMMAND")],
    title: Annotated[str, typer.Option(help="The name on the progress bar.")] = "run",
    log: Annotated[Path, typer.Option(help="The file for a training's output.")] = Path("run.log"),
) -> None:
    """Check a command and run it, with a progress bar and a log file.

    A training continues only with the settings that it began with.
    """
    from verl_axpo import launch

    raise typer.Exit(launch.run(command, title, log, console))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check whether this machine can train, and how to fix it."""
    from verl_axpo import doctor as checks

    _tell(checks.examine(), as_json)


def _tell(findings: Iterable["Finding"], as_json: bool) -> None:
    from verl_axpo.findings import show

    if not show(console, findings, as_json=as_json):
        raise typer.Exit(FINDING)


@app.command()
def audit(folder: RunOrTrace, as_json: Json = False) -> None:
    """Recompute every decision and advantage from a trace.

    Trigger, ranking, allocation, masks, advantages, metrics; exits with 1 on any difference.
    """
    from verl_axpo.audit import audit as recompute

    result = recompute(trace_of(folder))
    differences = list(map(str, result.differences))
    if as_json:
        shown = {"steps": result.steps, "trajectories": result.trajectories, "notes": list(result.notes)}
        print(json.dumps({**shown, "differences": differences}, indent=2))
    else:
        _print_first("[bold red]difference[/]", differences)
        _print_first("[yellow]note[/]", result.notes)
        console.print(f"{result.steps} steps, {result.trajectories} trajectories, {len(differences)} differences")
    if differences:
        raise typer.Exit(FINDING)


def _print_first(title: str, lines: Sequence[str]) -> None:
    for line in lines[:MOST_LINES]:
        console.print(f"{title} {escape(line)}", soft_wrap=True)
    if len(lines) > MOST_LINES:
        console.print(f"... and {len(lines) - MOST_LINES} more of these")


@app.command()
def coverage(
    folder: RunOrTrace,
    scratch: Annotated[Path | None, typer.Option(help="A run with algorithm.axpo.prefix=scratch.")] = None,
    as_json: Json = False,
) -> None:
    """Compare continuations of a prefix with fresh rollouts.

    From the trace: how often k of them include a correct call, and the tokens of a recovery (Proposition 1).
    """
    from verl_axpo.report.coverage import coverage as measure

    table = measure(trace_of(folder), trace_of(scratch) if scratch else None)
    if as_json:
        return print(json.dumps(table.records(), indent=1))
    console.print(table)


@app.command()
def view(
    folder: Annotated[Path, typer.Argument(help="The folder of a run, a trace or an evaluation.", metavar="DIR")],
    html: Annotated[Path | None, typer.Option(help="Write the page to this file instead.")] = None,
    steps: Annotated[
        str | None, typer.Option(help="With --html: which steps (1,5-7) or benchmarks. [last step, all]")
    ] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="With --html: include all tokens.")] = False,
    serve: Annotated[bool, typer.Option("--serve", help="Open no browser; print the address.")] = False,
    port: Annotated[int, typer.Option(help="The page's port; 0 takes a free one.")] = 0,
    step: Annotated[int | None, typer.Option(help="Print the questions of this step in the terminal.")] = None,
    uid: Annotated[
        str | None, typer.Option(help="With --step: print one question, by its row, its uid, or the uid's beginning.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Look at rollouts and continuations in a browser.

    With --step S in the terminal. Only this machine can open the page, which follows a run that still goes on.
    """
    if html is None and (steps is not None or tokens):
        raise ValueError("view: --steps and --tokens need a file; add --html FILE")
    if step is None and (uid is not None or as_json):
        raise ValueError("view: --uid and --json need a step; add --step S")
    if step is None:
        from verl_axpo.view import command

        source = command.source_of(folder, trace_of(folder))
        if html is not None:
            return command.save(source, steps, html, console, tokens=tokens)
        return command.serve(source, port, console, browser=not serve)
    from verl_axpo.report.viewer import view as render
    from verl_axpo.report.viewer import view_json

    if as_json:
        return print(view_json(trace_of(folder), step, uid).decode())
    console.print(render(trace_of(folder), step, uid))


@app.command()
def export(
    folder: Annotated[
        Path, typer.Argument(help="A run's folder, its trace, or an evaluation's folder.", metavar="DIR")
    ],
    to: Annotated[ExportFormat, typer.Option(help="The format: inspect, for `inspect view`.")],
    out: Annotated[Path, typer.Option(help="FILE.eval, or FILE.json for Inspect's JSON format.", metavar="FILE")],
    step: Annotated[int | None, typer.Option(help="The step of a training; the last one without it.")] = None,
) -> None:
    """Write a step or an evaluation for Inspect.

    Needs the extra `inspect`: pip install 'verl-axpo[inspect]'.
    """
    from verl_axpo.export import to_inspect

    with console.status("writing samples"):
        written = to_inspect(folder, trace_of(folder), out, step)
    console.print(f"wrote {out}, {written} samples; inspect view --log-dir {out.parent}", soft_wrap=True)


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="One folder per run.", metavar="DIR")],
    out: Annotated[Path | None, typer.Option(help="The report's folder; a single run needs none.")] = None,
    title: Annotated[str, typer.Option(help="The report's headline.")] = "AXPO run",
    arm: Annotated[
        str | None, typer.Option(help="The arm of a run that has just ended: collect verl's files first.")
    ] = None,
    seed: Annotated[int, typer.Option(help="With --arm: the run's seed.")] = 0,
    as_json: Json = False,
) -> None:
    """Write the report of one run, or of several side by side.

    Makes report.html, report.md, report.json, and in report/ every table as CSV and JSON, every plot as SVG.
    """
    from verl_axpo.report.runs import finish
    from verl_axpo.report.training import build_report
    from verl_axpo.training_folder import trained

    if out is None and len(folders) > 1:
        raise ValueError(f"report: {len(folders)} runs need a folder for their report; add --out DIR")
    if arm is not None:
        for folder in folders:
            for missing in finish(folder, arm, seed, trained(folder / "checkpoints")):
                print(missing, file=sys.stderr if as_json else None)
    with console.status("reading runs, drawing plots"):
        path = build_report(folders, out or folders[0], title)
    if as_json:
        return print(path.with_suffix(".json").read_text(), end="")
    console.print(f"wrote {path} and {path.with_suffix('.html').name}", soft_wrap=True)


def trace_of(folder: Path) -> Path:
    """The trace of a run's folder, or the folder itself if it is a trace."""
    inside = folder / "trace"
    return inside if inside.is_dir() else folder
