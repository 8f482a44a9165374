"""Shared work is done once for all callers, in any order, and results are not mixed up."""

import asyncio
import weakref

import pytest

from verl_axpo.integration.shared import FeatureCache, SharedWork


def test_everybody_gets_the_same_result() -> None:
    calls: list[str] = []

    async def compute() -> str:
        calls.append("x")
        await asyncio.sleep(0.01)
        return "result"

    async def scenario() -> list[str]:
        work = SharedWork()
        together = await asyncio.gather(work.result("a", compute), work.result("a", compute))
        return [*together, await work.result("a", compute), await work.result("b", compute)]

    assert asyncio.run(scenario()) == ["result"] * 4
    assert calls == ["x", "x"]  # once for each name


def test_an_error_is_everybodys_and_a_cancelled_asker_is_not() -> None:
    async def fail() -> str:
        raise OSError("disk")

    async def slow() -> str:
        await asyncio.sleep(0.02)
        return "result"

    async def scenario() -> str:
        work = SharedWork()
        for _ in range(2):
            with pytest.raises(OSError, match="disk"):
                await work.result("bad", fail)
        impatient = asyncio.create_task(work.result("slow", slow))
        await asyncio.sleep(0)
        impatient.cancel()
        return await work.result("slow", slow)

    assert asyncio.run(scenario()) == "result"


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
    """A stand-in for a tensor, to which a weak reference is possible."""


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
