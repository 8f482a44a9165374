"""One evaluation from settings to finished rollouts: manifest -> plan -> runner.

    Settings, questions -> open_manifest -> Plan -> Agent (only if something is left to sample) -> Runner -> folder

Verl and the tools are imported when there is something to sample: running a finished evaluation again takes seconds.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from verl_axpo.agent.client import ChatClient
from verl_axpo.eval.live import Live
from verl_axpo.eval.manifest import note_tool_data, of_other_versions, open_manifest, pin_prompt
from verl_axpo.eval.plan import Leftover, Plan
from verl_axpo.eval.registry import Registry, about, check_images, judged
from verl_axpo.eval.runner import Runner
from verl_axpo.eval.server import Serve, serving
from verl_axpo.eval.settings import Settings
from verl_axpo.eval.store import Store
from verl_axpo.eval.types import Question
from verl_axpo.image_store import store_image
from verl_axpo.rewards.answer import final_answer

if TYPE_CHECKING:  # imports verl and torch
    from verl_axpo.agent.loop import Agent

Questions = Mapping[str, Sequence[Question]]  # of each benchmark


async def evaluate(
    settings: Settings,
    questions: Questions,
    *,
    registry: Registry,
    revisions: Mapping[str, str] | None = None,
    out: Path,
    base_url: str,
    api_key: str,
    tools: str | None,
    judge: Any,
    concurrency: int,
    retries: int,
    console: Console,
    serve: Serve | None = None,
) -> Leftover:
    """Sample and score what `out` does not have yet.

    Args:
        settings: what the numbers depend on.
        questions: of each benchmark.
        registry: scores the answers.
        revisions: of each benchmark the hub's commit, or `local`, for the manifest.
        base_url, api_key: of the server.
        tools: a tool config, or one of ours by name; None without tools.
        judge: handed to the registry's `score`; None: rules alone. Where the folder's runs had none so far, it decides
            what the rules called wrong. A judge that keeps failing is not asked any more.
        concurrency: trajectories at a time.
        retries: of a request, with growing pauses, before its rollout counts as failed.
        console: shows the progress.
        serve: start vLLM's server for this model while there is something to sample, instead of `base_url`.

    Returns:
        what failed, for the next run to try again.

    Raises:
        ServerLost: too many failures in a row.
        ValueError: other settings than those that the folder was made with, a server that refuses, a question with
            too few or too many images, or a question that only a judge can score and no judge; more to sample in a
            folder whose rollouts rest on other rules, after what is there was scored.
    """
    waiting = _checked(registry, questions, judge, console)
    async with AsyncExitStack() as stack:
        store = stack.enter_context(Store(out))
        described = about(registry, questions, revision=revisions or {}, judged=waiting)
        manifest = open_manifest(out, settings.for_manifest(tools), questions, described)
        for name, asked in questions.items():
            store.add_questions(name, asked, manifest.benchmarks[name]["file"])
        runner = Runner(
            registry=registry,
            judge=judge,
            read_answer=final_answer,
            settings=settings,
            store=store,
            concurrency=concurrency,
            live=stack.enter_context(Live(console)),
        )
        plan = Plan.of(questions, settings.rollouts, store, runner.waits_for_judge)
        refusal = of_other_versions(out) if plan.sample else None
        loaded = list[Any]()
        if plan.sample and refusal is None:
            url = base_url if serve is None else stack.enter_context(serving(serve, out / "server.log"))
            client = ChatClient(url, settings.model, api_key=api_key, retries=retries)
            stack.push_async_callback(client.close)
            loaded = _tools(out, tools)
            runner.agent = await _agent(settings, client, loaded, out)
        await runner.run(plan if refusal is None else replace(plan, sample=()))
        if refusal is not None:
            raise ValueError(refusal)
        note_tool_data(out, {tool.name: tool.content_hash() for tool in loaded if hasattr(tool, "content_hash")})
        return Leftover.of(Plan.of(questions, settings.rollouts, store, runner.waits_for_judge), store)


def _checked(registry: Registry, questions: Questions, judge: Any, console: Console) -> dict[str, int]:
    """Before anything is asked: every `<image>` has its image, and somebody can score every answer.

    Returns:
        how many questions of each benchmark a judge decides; {} if the registry does not say.
    """
    for question in (each for asked in questions.values() for each in asked):
        check_images(question)
    decides, needs = judged(registry), getattr(registry, "needs_judge", None)
    waiting = {} if decides is None else _counts(decides, questions)
    if judge is not None:
        return waiting
    for name, count in ({} if needs is None else _counts(needs, questions)).items():
        if count:
            raise ValueError(
                f"{name}: no rule can decide about the answers to {count} of {len(questions[name])} questions; name a "
                "judge with --judge-model and --judge-url"
            )
    told = [f"{count} of {len(questions[name])} questions of {name}" for name, count in waiting.items() if count]
    if told:
        console.print(
            f"no judge: rules alone decide on {', '.join(told)}; these columns are lower bounds. The same command with "
            "--judge-model, now or later, asks a judge about what the rules called wrong, without sampling again",
            soft_wrap=True,
        )
    return waiting


def _counts(holds: Callable[[Question], bool], questions: Questions) -> dict[str, int]:
    return {name: sum(map(holds, asked)) for name, asked in questions.items()}


def _tools(out: Path, config: str | None) -> list[Any]:
    from verl_axpo.tools.described import load_tools, prompt_of

    loaded = load_tools(config) if config is not None else []
    pin_prompt(out, [prompt_of(tool) for tool in loaded])
    return loaded


async def _agent(settings: Settings, client: ChatClient, tools: Sequence[Any], out: Path) -> "Agent":
    from verl_axpo.agent.loop import Agent

    context = await client.context_length()
    if context is not None and context <= settings.limits.response_tokens:
        raise ValueError(
            f"{client.base_url}: its context is {context} tokens, too short for --response-tokens "
            f"{settings.limits.response_tokens}; serve it with a longer context (vLLM: --max-model-len), with room for "
            "the prompt and its images, or lower --response-tokens"
        )
    return Agent(
        client=client,
        keep=partial(store_image, out),
        tools=tuple(tools),
        sampling=settings.sampling,
        limits=settings.limits,
        dialect=settings.dialect,
        context=context,
        chat_template_kwargs=settings.chat_template_kwargs,
    )
