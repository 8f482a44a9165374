"""Which questions verl's `rollout.trace` gets of us, and in which context a continuation runs."""

import asyncio
from collections.abc import Iterator
from contextvars import ContextVar, copy_context

import pytest
from verl.utils.rollout_trace import RolloutTraceConfig

from verl_axpo.integration.rollout_trace import TracedQuestions, continued_under
from verl_axpo.integration.shared import LoopContext, loop_context

SPAN: ContextVar[str] = ContextVar("span", default="none")


@pytest.fixture
def settings() -> Iterator[RolloutTraceConfig]:
    RolloutTraceConfig.reset()
    yield RolloutTraceConfig.get_instance()
    RolloutTraceConfig.reset()


def admitted(questions: TracedQuestions, step: int, count: int, *, validate: bool = False) -> list[bool]:
    return [questions.admits({"step": step, "validate": validate}) for _ in range(count)]


def test_without_a_backend_no_question_is_traced(settings: RolloutTraceConfig) -> None:
    assert admitted(TracedQuestions(), 1, 2) == [False, False]


def test_all_questions_are_traced_or_the_first_of_each_step(settings: RolloutTraceConfig) -> None:
    settings.backend = "mlflow"
    questions = TracedQuestions()
    assert admitted(questions, 1, 3) == [True, True, True]
    settings.max_samples_per_step_per_worker = 1
    assert admitted(questions, 2, 2) == [True, False]
    assert admitted(questions, 2, 2, validate=True) == [True, False]
    assert admitted(questions, 3, 1) == [True]


async def test_a_continuation_runs_in_the_context_of_its_source_and_leaves_it_as_it_was() -> None:
    async def source() -> object:
        SPAN.set("source")
        return copy_context()

    async def continuation(number: int) -> tuple[str, LoopContext | None]:
        before = SPAN.get()
        SPAN.set(f"continuation {number}")
        await asyncio.sleep(0)
        return before, loop_context()

    spans = await asyncio.create_task(source())
    context = LoopContext(source=3)
    results = await asyncio.gather(*(continued_under(spans, context, continuation(k)) for k in range(2)))
    assert results == [("source", context), ("source", context)]
    assert (SPAN.get(), loop_context()) == ("none", None)


async def test_an_error_of_a_continuation_is_raised_where_it_is_awaited() -> None:
    async def fails() -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await continued_under(copy_context(), LoopContext(), fails())
