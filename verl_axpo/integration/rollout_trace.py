"""verl's `rollout.trace` (MLflow, Weave, Trackio) for our sessions: a trace per rollout, its continuations inside.

    question -> TracedQuestions.admits -> rollout_span -> verl's spans -> Trajectory.spans -> continued_under

verl 0.9.1's TransferQueue worker asks no session to be traced ("TODO: add trace support"), so ours decides. A span
belongs under the one that its task sees in its context variables, in each of the backends that nest. A continuation
therefore runs in a copy of the context that its source ran in. Trackio keeps a flat list: there `rollout_n`, which a
continuation shares with its source, and `source_session` among the inputs of `ToolAgentLoop.run` say the same.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import AbstractContextManager
from contextvars import Context, copy_context
from typing import Any, TypeVar

from verl.utils.rollout_trace import RolloutTraceConfig, rollout_trace_attr

from verl_axpo.integration.shared import LoopContext, running_in

T = TypeVar("T")


class TracedQuestions:
    """Which questions of a worker are traced: the first of each step, `max_samples_per_step_per_worker` of them."""

    def __init__(self) -> None:
        self._began_in = copy_context()  # where verl began the backend's run
        self._round: tuple[Any, Any] | None = None  # the step, and whether it is a validation
        self._admitted = 0

    def admits(self, trajectory: Mapping[str, Any]) -> bool:
        """Whether all sessions of the next question are traced; `trajectory` is verl's description of it."""
        settings = RolloutTraceConfig.get_instance()
        if settings.backend is None:
            return False
        this_round = trajectory.get("step"), trajectory.get("validate")
        if this_round != self._round:
            self._round, self._admitted = this_round, 0
        if settings.backend == "trackio":
            self._join_run()
        limit = settings.max_samples_per_step_per_worker
        self._admitted += 1
        return limit is None or self._admitted <= limit

    def _join_run(self) -> None:
        """Trackio's run is a context variable, which an actor's start sets and its tasks do not see (verl 0.9.1: each
        session would fail)."""
        from trackio import context_vars

        context_vars.current_run.set(self._began_in.get(context_vars.current_run))


def rollout_span(trajectory: Mapping[str, Any], *, trace: bool) -> AbstractContextManager[None]:
    """The root of a rollout's trace, open until its group is published: continuations begin after their source ended,
    and MLflow takes no span into a trace whose root has ended."""
    names = ("step", "sample_index", "rollout_n", "validate")
    known = {name: trajectory[name] for name in names if name in trajectory}
    span: AbstractContextManager[None] = rollout_trace_attr(**known, name="rollout", trace=trace)
    return span


def continued_under(spans: Context, context: LoopContext, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
    """`work` as a task in a copy of `spans`, where its agent loop sees `context`."""

    async def run() -> T:
        with running_in(context):
            return await work

    # `create_task(context=...)` came with Python 3.11; a task copies the context that it is created in
    return spans.run(asyncio.ensure_future, run())
