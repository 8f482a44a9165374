"""Features of images: computed once for those who share them, in a thread, and never mixed up."""

import asyncio
import threading
import weakref

import pytest
import torch
from verl.experimental.agent_loop import AgentLoopOutput

from verl_axpo.integration.features import FeatureCache, FeaturesWorker


def test_features_are_those_of_the_very_images() -> None:
    cache, picture, crop = FeatureCache(), object(), object()
    with cache.keeping([picture]):
        assert cache.features([picture], lambda: {"pixels": 1}) == {"pixels": 1}
        assert cache.features([picture, crop], lambda: {"pixels": 2}) == {"pixels": 2}
        assert cache.features([picture], lambda: {"pixels": 3}) == {"pixels": 1}
        cache.features([picture], lambda: {"pixels": 4}).pop("pixels")  # verl takes keys out of what it gets
        assert cache.features([picture], lambda: {"pixels": 5}) == {"pixels": 1}
        assert cache.features([picture, crop], lambda: {"pixels": 6}) == {
            "pixels": 6
        }  # a tool's image: nobody else has this list
    assert cache.features([picture], lambda: {"pixels": 7}) == {"pixels": 7}


class Pixels:
    """Stands for a tensor: can be watched while it lives."""


def test_nothing_lives_longer_than_the_group() -> None:
    cache, image = FeatureCache(), object()
    with cache.keeping([image]):
        watched = weakref.ref(cache.features([image], lambda: {"pixels": Pixels()})["pixels"])
        assert watched() is not None  # kept: nobody else holds it
        crop = weakref.ref(cache.features([image, object()], lambda: {"pixels": Pixels()})["pixels"])
        assert crop() is None
    assert watched() is None


def test_questions_without_images_do_not_disturb_each_other() -> None:
    cache, image = FeatureCache(), object()
    with cache.keeping([]), cache.keeping([image]):
        with cache.keeping([]):
            assert cache.features([image], lambda: {"pixels": 1}) == {"pixels": 1}
        assert cache.features([image], lambda: {"pixels": 2}) == {"pixels": 1}


def test_a_processor_that_failed_is_asked_again() -> None:
    cache, image = FeatureCache(), object()

    def fail() -> dict[str, int]:
        raise OSError("truncated image")

    with cache.keeping([image]):
        with pytest.raises(OSError, match="truncated"):
            cache.features([image], fail)
        assert cache.features([image], lambda: {"pixels": 1}) == {"pixels": 1}


def test_the_event_loop_goes_on_while_features_are_computed_once() -> None:
    cache, picture, may_end, ran_in = FeatureCache(), object(), threading.Event(), []

    def compute() -> dict[str, int]:
        ran_in.append(threading.current_thread())
        assert may_end.wait(5.0)  # set by the loop, which must not wait for this
        return {"pixels": 1}

    async def scenario() -> None:
        with cache.keeping([picture]):
            rows = [asyncio.ensure_future(cache.ahead([picture], compute)) for _ in range(2)]
            await asyncio.sleep(0.01)
            may_end.set()
            await asyncio.gather(*rows)
            assert cache.features([picture], lambda: {"pixels": 2}) == {"pixels": 1}

    asyncio.run(scenario())
    assert len(ran_in) == 1
    assert ran_in[0] is not threading.main_thread()


def test_a_row_of_a_kept_question_does_not_end_the_keeping() -> None:
    cache, picture = FeatureCache(), object()
    with cache.keeping([picture]):
        with cache.keeping([picture]):
            cache.features([picture], lambda: {"pixels": 1})
        assert cache.features([picture], lambda: {"pixels": 2}) == {"pixels": 1}


def test_features_that_come_when_their_group_has_ended_are_not_kept() -> None:
    cache, picture = FeatureCache(), object()
    group = cache.keeping([picture])
    group.__enter__()

    def compute() -> dict[str, int]:
        group.__exit__(None, None, None)
        return {"pixels": 1}

    assert cache.features([picture], compute) == {"pixels": 1}
    assert cache.features([picture], lambda: {"pixels": 2}) == {"pixels": 2}


def test_the_thread_has_a_processor_of_its_own_and_verl_finds_what_it_made(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = FeaturesWorker.__new__(FeaturesWorker)
    worker.processor, worker.tokenizer, worker.features = ["processor"], ["tokenizer"], FeatureCache()
    row = AgentLoopOutput(
        prompt_ids=[1], response_ids=[2], response_mask=[1], multi_modal_data={"images": ["picture"]}, metrics={}
    )
    used: list[tuple[object, object, list[int]]] = []

    def process(this: FeaturesWorker, output: AgentLoopOutput, input_ids: torch.Tensor) -> dict[str, object]:
        used.append((this.processor, this.tokenizer, input_ids.tolist()))
        return {"pixels": len(used)}

    async def scenario() -> None:
        async with worker.features_ahead(row):
            assert worker._compute_multi_modal_inputs(row, torch.tensor([1, 2])) == {"pixels": 1}
        assert worker._compute_multi_modal_inputs(row, torch.tensor([1, 2])) == {"pixels": 2}  # nothing was kept

    monkeypatch.setattr(FeaturesWorker.__mro__[1], "_compute_multi_modal_inputs", process)
    asyncio.run(scenario())
    (processor, tokenizer, ids), _ = used
    assert (processor, tokenizer, ids) == (["processor"], ["tokenizer"], [1, 2])
    assert processor is not worker.processor
    assert tokenizer is not worker.tokenizer
