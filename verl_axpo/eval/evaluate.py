"""One evaluation from settings to finished rollouts: manifest -> plan -> runner.

    Settings, questions -> open_manifest -> Plan -> Agent (only if something is left to sample) -> Runner -> folder

Verl and the tools are imported when there is something to sample: running a finished evaluation again takes seconds.
"""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from verl_axpo.agent.server import ChatServer
from verl_axpo.eval.leftover import Leftover
from verl_axpo.eval.live import Live
from verl_axpo.eval.manifest import judge_comes, note_tool_data, open_manifest, pin_prompt
from verl_axpo.eval.runner import Job, Plan, Runner, Runs
from verl_axpo.eval.server import Serve, serving
from verl_axpo.eval.settings import Registry, Settings, about, count_judged, judged
from verl_axpo.eval.store import Store
from verl_axpo.eval.types import Question, Score
from verl_axpo.rewards.answer import final_answer

if TYPE_CHECKING:  # verl and torch behind it
    from verl_axpo.agent.loop import Agent


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """`left`: what failed, for the next run to try again. `worked`: this run sampled or scored any, or has the first
    judge."""

    left: Leftover
    worked: bool

    @property
    def complete(self) -> bool:
        """Whether every rollout is there and scored."""
        return self.left.share == 0


async def evaluate(
    settings: Settings,
    questions: Mapping[str, Sequence[Question]],
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
) -> Done:
    """Sample and score what `out` does not have yet.

    Args:
        settings: what the numbers depend on.
        questions: of each benchmark.
        registry: scores the answers.
        revisions: of each benchmark the hub's commit, or `local`, for the manifest.
        base_url, api_key: of the server.
        tools: a tool config, or one of ours by name; None without tools.
        judge: handed to the registry's `score`; None: rules alone. Where the folder's runs had none so far, it decides
            what the rules found wrong.
        concurrency: trajectories at a time.
        retries: of a request, with growing pauses, before its rollout counts as failed.
        console: shows the progress.
        serve: start vLLM's server for this model while there is something to sample, instead of `base_url`.

    Raises:
        ServerLost: too many failures in a row.
        ValueError: other settings than those that the folder was made with, a server that refuses, a question with
            too few or too many images, or one that only a judge can score and no judge.
    """

    async def scorer(question: Question, answer: str | None) -> Score:
        return await registry.score(question, answer, judge)

    def plan_of() -> Plan:
        decides = judged(registry) or (lambda question: True)
        return Plan.of(questions, settings.rollouts, store, decides if judge is not None else lambda question: False)

    _check(questions)
    waiting = count_judged(registry, questions)
    if judge is None:
        _check_without_judge(registry, questions)
        _tell_lower_bounds(waiting, questions, console)
    async with AsyncExitStack() as stack:
        store = stack.enter_context(Store(out))
        noted = settings.for_manifest(tools)
        has_come = judge_comes(out, noted)
        open_manifest(out, noted, questions, about(registry, list(questions), revisions, judged=waiting))
        for name, some in questions.items():
            store.add_questions(name, some)
        plan = plan_of()
        agent: Runs = _Nobody()
        loaded: list[Any] = []
        if plan.sample:
            if serve is not None:
                base_url = stack.enter_context(serving(serve, out / "server.log"))
            server = ChatServer(base_url, settings.model, api_key=api_key, retries=retries)
            stack.push_async_callback(server.close)
            loaded = _tools(out, tools)
            agent = await _agent(settings, server, loaded)
        runner = Runner(
            agent=agent,
            scorer=scorer,
            judge=judge is not None,
            read_answer=final_answer,
            store=store,
            concurrency=concurrency,
            seed=_seeds(settings.sampling.seed),
            watcher=stack.enter_context(Live(console)),
        )
        await runner.run(plan)
        note_tool_data(out, {tool.name: tool.content_hash() for tool in loaded if hasattr(tool, "content_hash")})
        return Done(left=Leftover.of(plan_of(), store), worked=has_come or not plan.empty)


def _check(questions: Mapping[str, Sequence[Question]]) -> None:
    """Before anything is asked: every `<image>` has its image."""
    for one in (one for some in questions.values() for one in some):
        wanted = one.prompt.count("<image>")
        if wanted != len(one.images):
            raise ValueError(
                f"question {one.uid} of {one.benchmark}: got {len(one.images)} images for {wanted} <image> in its "
                "prompt, expected as many; correct its benchmark's module"
            )


def _check_without_judge(registry: Registry, questions: Mapping[str, Sequence[Question]]) -> None:
    """A registry that cannot do without a judge says so by `needs_judge(question)`."""
    needs = getattr(registry, "needs_judge", None)
    if needs is None:
        return
    for name, some in questions.items():
        waiting = sum(map(needs, some))
        if waiting:
            raise ValueError(
                f"{name}: got no judge for {waiting} of {len(some)} questions, whose answers no rule decides; expected "
                "--judge-model and --judge-url"
            )


def _tell_lower_bounds(
    waiting: Mapping[str, int], questions: Mapping[str, Sequence[Question]], console: Console
) -> None:
    """Which columns a judge would raise, before hours are spent."""
    some = [f"{count} of {len(questions[name])} questions of {name}" for name, count in waiting.items() if count]
    if some:
        console.print(
            f"no judge: rules alone decide on {', '.join(some)}; these columns are lower bounds. The same command with "
            "--judge-model, now or later, asks a judge about what the rules found wrong, without sampling again",
            soft_wrap=True,
        )


def _tools(out: Path, config: str | None) -> list[Any]:
    from verl_axpo.agent.toolbox import load_tools, schema_of

    loaded = load_tools(config) if config is not None else []
    pin_prompt(out, [schema_of(tool) for tool in loaded])
    return loaded


async def _agent(settings: Settings, server: ChatServer, tools: Sequence[Any]) -> "Agent":
    from verl_axpo.agent.loop import Agent

    context = await server.context_length()
    if context is not None and context <= settings.limits.response_tokens:
        raise ValueError(
            f"{server.base_url}: its context is {context} tokens, expected more than response_tokens="
            f"{settings.limits.response_tokens}; serve it with a longer one (vLLM: --max-model-len), room for the "
            "prompt's images included, or lower --response-tokens"
        )
    return Agent(
        server=server,
        tools=tuple(tools),
        sampling=settings.sampling,
        limits=settings.limits,
        dialect=settings.dialect,
        context=context,
    )


def _seeds(run_seed: int | None) -> Any:
    """(job, turn) -> seed of a request: a function of what is asked, not of when."""
    if run_seed is None:
        return lambda job, turn: None

    def seed(job: Job, turn: int) -> int | None:
        from verl_axpo.integration.agent_loop import request_seed

        return request_seed(run_seed, 0, f"{job.question.benchmark}/{job.question.uid}", job.rollout, turn)

    return seed


class _Nobody:
    """The agent of a plan that samples nothing."""

    async def run(self, *_: Any) -> Any:
        raise AssertionError("nothing was planned")
