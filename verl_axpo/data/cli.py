"""`verl-axpo data`: from raw files to the SFT and RL sets, a command per stage.

sources -> fetch -> check -> ingest -> benchmarks -> dedup -> teacher, collect -> sft -> SFT model, collect -> filter

Every stage says what it did or that there was nothing to do; all files lie in `--work`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:  # imports what takes seconds
    from verl_axpo.data.workspace import Workspace

app = typer.Typer(name="data", no_args_is_help=True, help="Make SFT and RL sets; check a file of your own.")
console = Console()

DEFAULT_WORK = Path("outputs/data")
EVERY_ROWS = 500  # between two signs of life

Work = Annotated[Path, typer.Option(help="The folder of all files.", metavar="DIR")]
Root = Annotated[Path | None, typer.Option(help="The source's folder, if `fetch` did not fill it.", metavar="DIR")]
MaxBad = Annotated[float, typer.Option(help="The largest share of bad rows that is skipped.")]
SourceName = Annotated[str, typer.Argument(help="One of `verl-axpo data sources`.", metavar="SOURCE")]
Tools = Annotated[str, typer.Option(help="A tool config, or the name of one of ours.")]
Rollouts = Annotated[
    list[Path], typer.Option("--rollouts", help="A file of rollouts; may be repeated.", metavar="FILE")
]
Teacher = Annotated[str, typer.Option(help="The teacher's name in the rollouts.")]
Embed = Annotated[bool, typer.Option(help="Images inside the parquet, instead of paths into the image store.")]


@app.command()
def sources() -> None:
    """List the sources that can be read."""
    from verl_axpo.data.sources import SOURCES

    table = Table("source", "repository", "licence", "rows", "schema known from")
    for each in SOURCES.values():
        table.add_row(each.name, each.repo, each.licence, f"{each.rows:,}" if each.rows else "", each.known_from)
    console.print(table)


@app.command()
def fetch(
    source: SourceName,
    work: Work = DEFAULT_WORK,
    repo: Annotated[str | None, typer.Option(help="Another repository with the same files.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="A mirror's URL; HF_ENDPOINT by default.")] = None,
) -> None:
    """Download a source.

    Goes on where it ended, verifies every file, fetches nothing twice.
    """
    from verl_axpo.data.hub import fetch as bring
    from verl_axpo.data.sources import source_of

    chosen, out = source_of(source), _space(work).raw(source)
    got = bring(repo or chosen.repo, chosen.files, out, revision=revision, endpoint=endpoint, tell=console.print)
    console.print(
        f"{source}: {len(got.files)} files of {got.commit[:12]} in {out}, {got.bytes_brought:,} bytes brought"
    )


@app.command()
def check(
    source: Annotated[list[str], typer.Argument(help="One of `sources`, or parquet files.", metavar="SOURCE|FILE...")],
    work: Work = DEFAULT_WORK,
    root: Root = None,
    rows: Annotated[int, typer.Option(help="Bad rows to show.")] = 20,
    max_bad: MaxBad = 0.01,
) -> None:
    """Validate every row; write nothing.

    Of a source the images are not looked at. Of your own parquet files everything is checked that training reads.
    """
    from verl_axpo.data.ingest import Ingested, check_share, read
    from verl_axpo.data.sources import SOURCES, source_of

    for name in source:
        if name not in SOURCES and name.endswith(".parquet"):
            _check_file(Path(name), rows)
            continue
        result = Ingested(source=name)
        sound = sum(1 for _ in read(source_of(name), root or _space(work).raw(name), None, result))
        for row in result.bad[:rows]:
            _tell_bad(row.place, row.reason)
        numbers = result.summary(sound, 0, source_of(name).rows)
        del numbers["images"]
        show(numbers, skipped=False)
        check_share(result, max_bad)


def _tell_bad(place: str, reason: str) -> None:
    console.print(f"[red]bad[/] {escape(place)}: {escape(reason)}", soft_wrap=True)


def _check_file(path: Path, most: int) -> None:
    """Tell the first bad rows of a parquet file of one's own; raises ValueError when there are any."""
    from verl_axpo.data.own import problems

    bad: dict[int, None] = {}
    for told, (number, reason) in enumerate(problems(path)):
        bad[number] = None
        if told < most:
            _tell_bad(f"{path} row {number}", reason)
    if bad:
        raise ValueError(
            f"{path}: {len(bad)} bad rows, listed above; correct them (--rows {len(bad)} lists all of them)"
        )
    console.print(f"{escape(str(path))}: every row is sound", soft_wrap=True)


@app.command()
def ingest(
    source: SourceName,
    work: Work = DEFAULT_WORK,
    root: Root = None,
    max_bad: MaxBad = 0.01,
    judge_above_words: Annotated[
        int | None, typer.Option(help="Let a judge decide if the true answer is longer.")
    ] = None,
) -> None:
    """Turn the rows of a source into problems."""
    from verl_axpo.data.pipeline import ingest_source
    from verl_axpo.data.sources import source_of

    space = _space(work)
    with console.status(f"{source}: starting") as status:

        def progress(done: int) -> None:
            if done % EVERY_ROWS == 0:
                status.update(f"{source}: {done:,} rows")

        folder = root or space.raw(source)
        show(*ingest_source(space, source_of(source), folder, max_bad, judge_above_words, progress))


@app.command()
def benchmarks(
    work: Work = DEFAULT_WORK,
    benchmark: Annotated[list[str] | None, typer.Option(help="Only this benchmark; may be repeated.")] = None,
    source: Annotated[list[str] | None, typer.Option(help="NAME=PATH of a local copy; may be repeated.")] = None,
    revision: Annotated[list[str] | None, typer.Option(help="NAME=COMMIT on the hub; may be repeated.")] = None,
    registry: Annotated[str, typer.Option(help="A module with names and load.")] = "verl_axpo.eval.benchmarks",
) -> None:
    """Record the benchmarks' questions for `dedup`.

    Those that are not named stay as they are noted.
    """
    from importlib import import_module

    from verl_axpo.data.entries import note_benchmarks

    space = _space(work)
    with console.status("reading the benchmarks"):
        count, read = note_benchmarks(space, import_module(registry), benchmark, source or (), revision or ())
    told = ", ".join(f"{name} ({commit})" if commit else name for name, commit in read.items())
    console.print(f"{count:,} questions of {told} in {space.benchmarks}", soft_wrap=True)


@app.command()
def dedup(
    work: Work = DEFAULT_WORK,
    source: Annotated[
        list[str] | None, typer.Option(help="Only this source; may be repeated. Of equal problems the first stays.")
    ] = None,
    against: Annotated[
        list[Path] | None, typer.Option(help="A file with more questions to keep out; may be repeated.", metavar="FILE")
    ] = None,
    most_bits: Annotated[int, typer.Option(help="Bits of 256 in which near images may differ.")] = 12,
    without_benchmark: Annotated[
        list[str] | None, typer.Option(help="Continue without this benchmark; may be repeated.")
    ] = None,
    without_benchmarks: Annotated[bool, typer.Option(help="Keep no benchmark out of training.")] = False,
) -> None:
    """Drop repeated problems, and problems of the benchmarks."""
    from verl_axpo.data.entries import held_out
    from verl_axpo.data.pipeline import dedup_sources
    from verl_axpo.data.sources import SOURCES

    space, added = _space(work), against or []
    entries = added if without_benchmarks else held_out(space, added, without_benchmark or ())
    chosen = source or [name for name in SOURCES if name in space.ingested()]
    with console.status("comparing"):
        show(*dedup_sources(space, chosen, entries, most_bits))


@app.command()
def collect(
    folder: Annotated[Path, typer.Argument(help="The --out folder of `verl-axpo eval run`.", metavar="DIR")],
    out: Annotated[Path, typer.Option(help="The file for the rollouts.", metavar="FILE")],
    model: Annotated[str, typer.Option(help="The model's name, for `sft` and `filter`.")],
    work: Work = DEFAULT_WORK,
) -> None:
    """Turn an evaluation's folder into a file of rollouts.

    What has no verdict yet is counted and left out.
    """
    from verl_axpo.data.collect import collect as gather

    with console.status("collecting"):
        show(gather(folder, model, out, _space(work).store()), skipped=False)


@app.command()
def sft(
    rollouts: Rollouts,
    tools: Tools,
    teacher: Teacher,
    work: Work = DEFAULT_WORK,
    tool_share: Annotated[str, typer.Option(help="Wanted share with a tool call, or none.")] = "0.25",
    per_problem: Annotated[int, typer.Option(help="Most trajectories of one problem.")] = 1,
    val: Annotated[int, typer.Option(help="Problems held out.")] = 128,
    max_tokens: Annotated[int | None, typer.Option(help="Drop trajectories with more tokens, prompt included.")] = None,
    seed: int = 0,
    embed: Embed = False,
) -> None:
    """Choose trajectories of the teacher; write the SFT set."""
    from verl_axpo.data.pipeline import make_sft
    from verl_axpo.data.select_sft import SftConfig
    from verl_axpo.tools.described import described

    share = None if tool_share == "none" else float(tool_share)
    config = SftConfig(tool_share=share, per_problem=per_problem, val=val, seed=seed, max_tokens=max_tokens)
    with console.status("choosing trajectories"):
        show(*make_sft(_space(work), rollouts, teacher, described(tools), config, embed))


@app.command("filter")
def filter_(
    rollouts: Rollouts,
    tools: Tools,
    teacher: Teacher,
    student: Annotated[str, typer.Option(help="The SFT model's name in the rollouts.")],
    work: Work = DEFAULT_WORK,
    attempts: Annotated[int, typer.Option(help="How many scored attempts decide about a problem.")] = 4,
    hard: Annotated[int, typer.Option(help="Problems drawn from the hard set; -1 for all.")] = 22_000,
    val: Annotated[int, typer.Option(help="Problems held out.")] = 256,
    undecided: Annotated[str, typer.Option(help="If there are fewer attempts: error, keep or drop.")] = "error",
    max_undecided: Annotated[float, typer.Option(help="The largest share of undecided problems.")] = 0.01,
    seed: int = 0,
    embed: Embed = False,
    out: Annotated[Path | None, typer.Option(help="The set's folder; WORK/rl by default.", metavar="DIR")] = None,
) -> None:
    """Drop problems that are too easy or too hard; write the RL set.

    Adds the hard set of MMFineReason.
    """
    from verl_axpo.data.pipeline import make_rl
    from verl_axpo.data.select_rl import RlConfig
    from verl_axpo.tools.described import described

    config = RlConfig(
        attempts=attempts,
        hard=None if hard < 0 else hard,
        val=val,
        undecided=undecided,  # type: ignore[arg-type]  # checks itself
        max_undecided=max_undecided,
        seed=seed,
    )
    with console.status("filtering"):
        show(*make_rl(_space(work, out), rollouts, teacher, student, described(tools), config, embed))


def _space(work: Path, rl_out: Path | None = None) -> "Workspace":
    from verl_axpo.data.workspace import Workspace

    return Workspace(work, rl_out)


def show(numbers: dict[str, Any], skipped: bool) -> None:
    """A stage's numbers, and whether there was anything to do."""
    if skipped:
        console.print("[dim]nothing has changed, the stage is done; its numbers:[/]")
    for name, value in numbers.items():
        console.print(f"  {escape(name)}: {escape(str(value))}", soft_wrap=True, highlight=False)
