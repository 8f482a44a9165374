"""Work done once: for everybody who asks, in any order, and never mixed up."""

import asyncio

import pytest

from verl_axpo.integration.shared import MAX_FEATURES, FeatureMemo, Once


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
    assert memo([one], lambda: {"pixels": 1}) == {"pixels": 1}
    assert memo([one, two], lambda: {"pixels": 2}) == {"pixels": 2}
    assert memo([one], lambda: {"pixels": 3}) == {"pixels": 1}
    memo([one], lambda: {"pixels": 4}).pop("pixels")  # verl takes keys out of what it gets
    assert memo([one], lambda: {"pixels": 5}) == {"pixels": 1}


def test_the_memo_is_bounded_and_forgets_the_least_recently_used() -> None:
    memo, images = FeatureMemo(), [object() for _ in range(MAX_FEATURES + 1)]
    for at, image in enumerate(images[:-1]):
        memo([image], lambda at=at: {"at": at})
    memo([images[0]], lambda: {})  # used again, so the second is the oldest
    memo([images[-1]], lambda: {"at": -1})
    assert memo([images[0]], lambda: {"at": "again"}) == {"at": 0}
    assert memo([images[1]], lambda: {"at": "again"}) == {"at": "again"}
