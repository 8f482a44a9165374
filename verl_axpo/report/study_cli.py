"""`verl-axpo study add | has | report`: runs -> rows (study.py) -> docs/study (study_page.py)."""

from pathlib import Path
from typing import Annotated

import typer

MISSING = 1  # exit status: no such row

app = typer.Typer(no_args_is_help=True, help="Compare arms over seeds, from a file with a row per run.")

Arm = Annotated[str, typer.Option(help="The arm's name in recipes/study.sh.")]
Seed = Annotated[int, typer.Option(help="The run's seed.")]
Sft = Annotated[Path, typer.Option(help="The checkpoint that the run starts from.")]
RowsFile = Annotated[Path, typer.Option("--rows", help="The file with a line of JSON per run.")]
ROWS = Path("docs/study/runs.jsonl")


@app.command()
def add(
    folder: Annotated[Path, typer.Argument(help="The folder of a finished run.", metavar="DIR")],
    arm: Arm,
    seed: Seed,
    sft: Sft,
    rows: RowsFile = ROWS,
) -> None:
    """Audit a run and append its row."""
    from verl_axpo.report.study import add as append

    print(f"{rows}: added {', '.join(append(rows, folder, arm, seed, sft))}, seed {seed}")


@app.command()
def has(arm: Annotated[str, typer.Argument(metavar="ARM")], seed: Seed, sft: Sft, rows: RowsFile = ROWS) -> None:
    """Exit with 0 if the row is there, with 1 if not, with 2 if the rows are of another SFT model."""
    from verl_axpo.report.study import has as is_there

    if not is_there(rows, arm, seed, sft):
        raise typer.Exit(MISSING)


@app.command()
def report(
    rows: RowsFile = ROWS,
    out: Annotated[Path, typer.Option(help="The folder for README.md and its plots.")] = ROWS.parent,
) -> None:
    """Make the study's page and plots from its rows."""
    from verl_axpo.report.study_page import write_study

    print(f"wrote {write_study(rows, out)}")
