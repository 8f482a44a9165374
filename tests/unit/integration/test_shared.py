"""Shared work is done once for all callers, in any order, and results are not mixed up."""

import asyncio

import pytest

from verl_axpo.integration.shared import SharedWork


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
