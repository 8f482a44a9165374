"""Work done once: for everybody who asks, in any order, and never mixed up."""

import asyncio
import weakref

import pytest

from verl_axpo.integration.shared import FeatureMemo, Once


def test_everybody_gets_the_one_result() -> None:
    calls: list[str] = []

    async def compute() -> str:
        calls.append("x")
        await asyncio.sleep(0.01)
        return "result"

    async def scenario() -> list[str]:
        once = Once()
        together = await asyncio.gather(once("a", compute), once("a", compute))
        return [*together, await once("a", compute), await once("b", compute)]

    assert asyncio.run(scenario()) == ["result"] * 4
    assert calls == ["x", "x"]  # once for each name


def test_an_error_is_everybodys_and_a_cancelled_asker_is_not() -> None:
    async def fail() -> str:
        raise OSError("disk")

    async def slow() -> str:
        await asyncio.sleep(0.02)
        return "result"

    async def scenario() -> str:
        once = Once()
        for _ in range(2):
            with pytest.raises(OSError, match="disk"):
                await once("bad", fail)
        impatient = asyncio.create_task(once("slow", slow))
        await asyncio.sleep(0)
        impatient.cancel()
        return await once("slow", slow)

    assert asyncio.run(scenario()) == "result"


def test_features_are_those_of_the_very_images() -> None:
    memo, one, two = FeatureMemo(), object(), object()
    with memo.keeping([one]):
        assert memo([one], lambda: {"pixels": 1}) == {"pixels": 1}
        assert memo([one, two], lambda: {"pixels": 2}) == {"pixels": 2}
        assert memo([one], lambda: {"pixels": 3}) == {"pixels": 1}
        memo([one], lambda: {"pixels": 4}).pop("pixels")  # verl takes keys out of what it gets
        assert memo([one], lambda: {"pixels": 5}) == {"pixels": 1}
        assert memo([one, two], lambda: {"pixels": 6}) == {"pixels": 6}  # a tool's image: nobody else has this list
    assert memo([one], lambda: {"pixels": 7}) == {"pixels": 7}


class Pixels:
    """Stands for a tensor: can be watched while it lives."""


def test_nothing_lives_longer_than_the_group() -> None:
    memo, image = FeatureMemo(), object()
    with memo.keeping([image]):
        watched = weakref.ref(memo([image], lambda: {"pixels": Pixels()})["pixels"])
        assert watched() is not None  # kept: nobody else holds it
        crop = weakref.ref(memo([image, object()], lambda: {"pixels": Pixels()})["pixels"])
        assert crop() is None
    assert watched() is None


def test_questions_without_images_do_not_disturb_each_other() -> None:
    memo, image = FeatureMemo(), object()
    with memo.keeping([]), memo.keeping([image]):
        with memo.keeping([]):
            assert memo([image], lambda: {"pixels": 1}) == {"pixels": 1}
        assert memo([image], lambda: {"pixels": 2}) == {"pixels": 1}


def test_a_processor_that_failed_is_asked_again() -> None:
    memo, image = FeatureMemo(), object()

    def fail() -> dict[str, int]:
        raise OSError("truncated image")

    with memo.keeping([image]):
        with pytest.raises(OSError, match="truncated"):
            memo([image], fail)
        assert memo([image], lambda: {"pixels": 1}) == {"pixels": 1}
