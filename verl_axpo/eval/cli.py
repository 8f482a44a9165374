"""`verl-axpo eval run | report | compare | export`: a model behind a server -> rollouts -> the paper's tables.

Exit statuses as in `verl_axpo.cli`: 2 for a mistake of the user's, 1 where services failed and a second run is needed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from verl_axpo.errors import InfraFailure
from verl_axpo.eval.options import count, judge_of, key_in, number, template_kwargs, tools_of

if TYPE_CHECKING:  # they import what takes seconds
    from verl_axpo.eval.plan import Leftover
    from verl_axpo.rewards.judge import Judge

REGISTRY = "verl_axpo.eval.benchmarks"
UNFINISHED = 1  # exit status: services failed, the same command goes on from here

app = typer.Typer(no_args_is_help=True, help="Evaluate on the paper's nine benchmarks, or on your own.")
console = Console()

Folder = Annotated[Path, typer.Argument(help="The --out folder of an evaluation.", metavar="DIR")]
Number = Annotated[float | None, typer.Option(parser=number, metavar="NUMBER|none", help="none: the server decides.")]
Count = Annotated[int | None, typer.Option(parser=count, metavar="INTEGER|none", help="0 or none: the server decides.")]
Temperature = Annotated[
    float | None, typer.Option(parser=number, metavar="NUMBER|none", help="none, or below 0: the server decides.")
]
Names = Annotated[list[str] | None, typer.Option(help="Only this benchmark; may be repeated.")]
Sources = Annotated[list[str] | None, typer.Option(help="NAME=PATH of a local copy; may be repeated.")]
Revisions = Annotated[list[str] | None, typer.Option(help="NAME=COMMIT on the hub; may be repeated.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first questions of each benchmark.")]
Module = Annotated[str, typer.Option(help="A module with names, get, load, score (docs/add_a_benchmark.md).")]
Served = Annotated[bool, typer.Option("--serve", help="Start vLLM's server for the model, instead of --base-url.")]
Json = Annotated[bool, typer.Option("--json", help="Print every number as JSON, instead of the tables.")]
Paper = Annotated[bool, typer.Option("--paper", help="Put the paper's numbers below ours, labelled as the paper's.")]


@app.command()
def run(
    model: Annotated[str, typer.Option(help="The model's name on the server.")],
    out: Annotated[Path, typer.Option(help="The evaluation's folder; run again to continue there.")],
    base_url: Annotated[str, typer.Option(help="The server's address, up to /v1.")] = "http://localhost:8000/v1",
    serve: Served = False,
    gpus: Annotated[int, typer.Option(help="With --serve: GPUs of all replicas; 0 for the CPU build.")] = 8,
    tp: Annotated[int, typer.Option(help="With --serve: GPUs of one replica.")] = 1,
    window: Annotated[int, typer.Option(help="With --serve: tokens of prompt and response.")] = 65_536,
    benchmark: Names = None,
    source: Sources = None,
    revision: Revisions = None,
    tools: Annotated[str | None, typer.Option(help="A tool config, or the name of one of ours.")] = None,
    agent: Annotated[bool, typer.Option("--agent/--no-agent", help="With tools, or in one turn without.")] = True,
    rollouts: Annotated[int, typer.Option(help="Rollouts of each question: the k of Pass@k.")] = 4,
    temperature: Number = 0.7,
    top_p: Number = 0.8,
    top_k: Count = 20,
    presence_penalty: Number = 1.5,
    seed: Annotated[int | None, typer.Option(help="A seed for every request.")] = None,
    chat_template_kwargs: Annotated[
        str | None, typer.Option(help="JSON, as data.apply_chat_template_kwargs in training.")
    ] = None,
    max_turns: Annotated[int, typer.Option(help="Most turns of the model.")] = 5,
    response_tokens: Annotated[int, typer.Option(help="Most tokens after the prompt, with tool responses.")] = 32_768,
    parallel_calls: Annotated[int, typer.Option(help="As in training: multi_turn.max_parallel_calls.")] = 1,
    tool_response_chars: Annotated[int, typer.Option(help="As in training: max_tool_response_length.")] = 8192,
    dialect: Annotated[str, typer.Option(help="text: a served checkpoint; server: a hosted model.")] = "text",
    concurrency: Annotated[int, typer.Option(help="Trajectories at once; more than the server's batch.")] = 128,
    retries: Annotated[int, typer.Option(help="How often a failed request is repeated.")] = 6,
    key_env: Annotated[str | None, typer.Option(help="The environment variable with the server's key.")] = None,
    judge_model: Annotated[str | None, typer.Option(help="A model that judges what no rule finds right.")] = None,
    judge_url: Annotated[str, typer.Option(help="The address of the judge's server.")] = "https://api.openai.com/v1",
    judge_key_env: Annotated[str, typer.Option(help="The variable with its key; '' for none.")] = "OPENAI_API_KEY",
    judge_temperature: Temperature = 0.0,
    max_failed: Annotated[float, typer.Option(help="The share of rollouts that may fail or stay unscored.")] = 0.0,
    limit: Limit = None,
    registry: Module = REGISTRY,
    paper: Paper = False,
) -> None:
    """Evaluate a served model.

    Rollouts and verdicts on disk are kept; run it again to continue.
    """
    options = locals()
    from verl_axpo.eval.settings import Settings

    settings = Settings.of(options, template_kwargs(chat_template_kwargs))
    if not 0 <= max_failed < 1:
        raise ValueError(f"max-failed: got {max_failed}, expected a share from 0 to below 1")
    from verl_axpo.eval.registry import load_all, pinned, registry_named

    benchmarks, api_key, tools = registry_named(registry), key_in(key_env), tools_of(tools, agent)
    with console.status("reading questions"):
        loaded = dict(load_all(benchmarks, benchmark, source, revision, limit, pinned(out)))
    from verl_axpo.eval.evaluate import evaluate
    from verl_axpo.eval.server import Serve

    whole = partial(
        evaluate,
        settings,
        {name: data.questions for name, data in loaded.items()},
        revisions={name: data.revision for name, data in loaded.items() if data.revision is not None},
        registry=benchmarks,
        out=out,
        base_url=base_url,
        api_key=api_key,
        tools=tools,
        concurrency=concurrency,
        retries=retries,
        console=console,
        serve=Serve(model=model, gpus=gpus, tensor_parallel=tp, window=window) if serve else None,
    )
    left = _run(whole, partial(judge_of, judge_model, judge_url, judge_key_env, judge_temperature, out))
    _finish(out, paper)
    if left.share:
        _tell(left, max_failed)


def _finish(out: Path, paper: bool) -> None:
    """The report, where the one that is there is of another state, or another one is asked for."""
    from verl_axpo.report.evaluation import is_current

    if paper or not is_current(out):
        _report(out, paper)
    else:
        console.print(f"nothing to do; the report is {out / 'report.md'}", soft_wrap=True)


def _tell(left: "Leftover", max_failed: float) -> None:
    """What is left although everything was tried, and whether that is too much."""
    for line in left.lines():
        console.print(escape(line), soft_wrap=True)
    if left.share > max_failed:
        console.print(f"not finished: at most {max_failed:.2%} may be left (--max-failed); run the same command again")
        raise typer.Exit(UNFINISHED)
    console.print(f"finished: up to {max_failed:.2%} may be left (--max-failed); the same command tries them again")


def _run(evaluation: "Callable[..., Awaitable[Leftover]]", open_judge: "Callable[[], Judge | None]") -> "Leftover":
    """To the end, or to the failure that stops it; the judge lives as long as its event loop."""

    async def whole() -> "Leftover":
        judge = open_judge()
        try:
            return await evaluation(judge=judge)
        finally:
            if judge is not None:
                await judge.close()

    try:
        return asyncio.run(whole())
    except InfraFailure as failure:
        console.print(f"[bold red]stopped[/] {escape(str(failure))}", soft_wrap=True)
        raise typer.Exit(UNFINISHED) from None


@app.command()
def report(folder: Folder, paper: Paper = False, title: str = "Evaluation", as_json: Json = False) -> None:
    """Write the report of an evaluation, finished or not.

    Makes report.html, report.md, report.json, and in report/ every table as CSV and JSON, every plot as SVG.
    """
    _report(folder, paper, title, as_json)


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(metavar="A")],
    after: Annotated[Path, typer.Argument(metavar="B")],
    out: Annotated[Path | None, typer.Option(help="Also write compare.html, .md, .json and compare/ there.")] = None,
    as_json: Json = False,
) -> None:
    """Compare two evaluations question by question.

    Paired differences B - A: delta, 95 % interval, permutation p-value.
    """
    from verl_axpo.report.build import write
    from verl_axpo.report.compare import compare as pair
    from verl_axpo.report.results import load_evaluation

    comparison = pair(load_evaluation(before), load_evaluation(after))
    written = write(comparison.report(), out, "compare") if out is not None else None
    if as_json:
        return print(comparison.report().json().decode(), end="")
    console.print(comparison.table)
    for line in comparison.left_out:
        console.print(f"[yellow]left out[/] {escape(line)}", soft_wrap=True)
    for line in comparison.settings:
        console.print(f"[yellow]other setting[/] {escape(line)}", soft_wrap=True)
    if written is not None:
        console.print(f"wrote {written}", soft_wrap=True)


@app.command()
def export(
    tools: Annotated[str, typer.Option(help="A tool config, or the name of one of ours.")],
    out: Annotated[Path, typer.Option(help="The parquet file to write.")],
    benchmark: Names = None,
    source: Sources = None,
    revision: Revisions = None,
    limit: Limit = None,
    embed: Annotated[bool, typer.Option(help="Images inside the file, instead of in the folder FILE.images.")] = False,
    registry: Module = REGISTRY,
) -> None:
    """Write benchmarks as rows for verl's validation.

    The file goes into data.val_files of a training.
    """
    from verl_axpo.eval.export import write
    from verl_axpo.eval.registry import load_all, registry_named
    from verl_axpo.tools.described import described

    benchmarks = registry_named(registry)
    with console.status("reading questions"):
        loaded = load_all(benchmarks, benchmark, source, revision, limit)
        questions = (data.questions for _, data in loaded)
        written = write(out, questions, described(tools), benchmarks, embed=embed)
    console.print(f"wrote {written} questions to {out}; their reward is pkg://verl_axpo.eval.reward", soft_wrap=True)
    if registry != REGISTRY:
        console.print(f"  with +reward.custom_reward_function.reward_kwargs.registry={registry}", soft_wrap=True)


def _report(folder: Path, paper: bool, title: str = "Evaluation", as_json: bool = False) -> None:
    from verl_axpo.report.evaluation import build_report

    with console.status("writing the report"):
        built = build_report(folder, title=title, with_paper=paper)
    if as_json:
        return print(built.report.json().decode(), end="")
    console.print(built.table)
    for note in built.notes:
        console.print(f"[yellow]note[/] {escape(note)}", soft_wrap=True)
    console.print(f"wrote {built.path} and {built.path.with_suffix('.html').name}", soft_wrap=True)
    console.print(f"every rollout in a browser: verl-axpo view {folder}", soft_wrap=True)
