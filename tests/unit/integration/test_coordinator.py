"""The step's barrier: all groups report, the budget is shared, and no group waits for ever."""

import asyncio

import pytest

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Candidate
from verl_axpo.integration.coordinator import BudgetCoordinator

CONFIG = AxpoConfig(budget=0.25, num_continuations=4)


def candidate(uid: str, score: float, session: int = 0) -> Candidate:
    return Candidate(uid=uid, session=session, score=score)


def test_the_budget_goes_breadth_first_over_all_groups_whatever_the_order_of_reports() -> None:
    async def scenario() -> list[tuple[Candidate, ...]]:
        # 3 questions x 8 rollouts x 0.25 / 4 = 1.5, so one prefix: that of the least confident question
        coordinator = BudgetCoordinator(CONFIG, 8)
        await coordinator.begin(["a", "b", "c"])
        reports = [("b", (candidate("b", 0.2),)), ("a", (candidate("a", 0.1),)), ("c", ())]
        return await asyncio.gather(*(coordinator.allocate(*report) for report in reports))

    assert asyncio.run(scenario()) == [(), (candidate("a", 0.1),), ()]


def test_a_group_with_nothing_to_resample_does_not_wait() -> None:
    async def scenario() -> tuple[Candidate, ...]:
        coordinator = BudgetCoordinator(CONFIG, 8)
        await coordinator.begin(["a", "b"])
        return await asyncio.wait_for(coordinator.allocate("a", ()), timeout=1)

    assert asyncio.run(scenario()) == ()


def test_a_triggered_group_waits_for_the_last_report() -> None:
    async def scenario() -> bool:
        coordinator = BudgetCoordinator(CONFIG, 8)
        await coordinator.begin(["a", "b"])
        waiting = asyncio.create_task(coordinator.allocate("a", (candidate("a", 0.1),)))
        await asyncio.sleep(0.05)
        early = waiting.done()
        await coordinator.allocate("b", ())
        assert await waiting == (candidate("a", 0.1),)  # floor(0.25 * 2 * 8 / 4) = 1 prefix
        return early

    assert asyncio.run(scenario()) is False


def test_after_a_dead_worker_the_others_get_the_budget_later(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> tuple[tuple[Candidate, ...], tuple[Candidate, ...]]:
        coordinator = BudgetCoordinator(CONFIG, 8, patience=0.05)
        await coordinator.begin(["a", "dead"])
        first = await coordinator.allocate("a", (candidate("a", 0.1),))
        return first, await coordinator.allocate("dead", (candidate("dead", 0.0),))

    assert asyncio.run(scenario()) == ((candidate("a", 0.1),), ())
    assert "no group has reported" in caplog.text
    assert "dead" in caplog.text


def test_every_report_starts_the_patience_again() -> None:
    async def scenario() -> tuple[Candidate, ...]:
        coordinator = BudgetCoordinator(CONFIG, 8, patience=2.0)
        await coordinator.begin(["a", "b", "c"])
        waiting = asyncio.create_task(coordinator.allocate("a", (candidate("a", 0.5),)))
        await asyncio.sleep(1.2)
        await coordinator.allocate("b", ())
        await asyncio.sleep(1.2)  # 2.4 s since `a` reported, 1.2 s since `b` did
        later = asyncio.create_task(coordinator.allocate("c", (candidate("c", 0.1),)))
        assert await waiting == ()
        return await later

    # Had the round been closed without `c`, the one prefix would be `a`'s
    assert asyncio.run(scenario()) == (candidate("c", 0.1),)


def test_rounds_do_not_mix_and_a_stranger_is_refused() -> None:
    async def scenario() -> None:
        coordinator = BudgetCoordinator(CONFIG, 8)
        await coordinator.begin(["a", "b"])
        await asyncio.gather(coordinator.allocate("a", (candidate("a", 0.1),)), coordinator.allocate("b", ()))
        decisions = await coordinator.decisions(["a", "b"])
        assert decisions.ranked == decisions.selected == {"a": (candidate("a", 0.1),), "b": ()}
        await coordinator.begin(["c", "d"])
        with pytest.raises(ValueError, match="got uid 'a'"):
            await coordinator.allocate("a", ())

    asyncio.run(scenario())


STREAMING = AxpoConfig(budget=0.25, num_continuations=4, allocation="streaming")  # 2 a group, 4 a prefix


async def test_streaming_answers_as_soon_as_the_account_allows_and_with_the_rest_at_the_end() -> None:
    coordinator = BudgetCoordinator(STREAMING, 8)
    await coordinator.begin(["a", "b", "c", "d"])
    first, second = candidate("a", 0.1), candidate("a", 0.2, session=1)
    waiting = asyncio.create_task(coordinator.allocate("a", (first, second)))
    await asyncio.sleep(0.01)
    assert not waiting.done()  # 2 in the account
    assert await coordinator.allocate("b", ()) == ()
    assert await asyncio.wait_for(waiting, 1) == (first,)
    more = asyncio.create_task(coordinator.more("a", 1))
    await coordinator.allocate("c", ())
    await asyncio.sleep(0.01)
    assert not more.done()  # 4 in the account, but `d` may need it
    await coordinator.allocate("d", ())
    assert await more == (second,)
    decisions = await coordinator.decisions(["d", "c", "b", "a"])
    assert decisions.selected["a"] == (first, second)
    assert [(told.uid, told.account, told.reserve) for told in decisions.settled] == [
        ("a", 2.0, None), ("b", 4.0, None), ("c", 2.0, None), ("d", 4.0, None)
    ]  # fmt: skip


async def test_streaming_ends_the_wait_for_a_dead_worker() -> None:
    coordinator = BudgetCoordinator(STREAMING, 8, patience=0.05)
    await coordinator.begin(["a", "dead"])
    assert await coordinator.allocate("a", (candidate("a", 0.1),)) == ()
    assert [told.uid for told in (await coordinator.decisions(["a", "dead"])).settled] == ["a"]


async def test_asynchronous_streaming_waits_for_nothing_and_keeps_its_account_from_call_to_call() -> None:
    coordinator = BudgetCoordinator(STREAMING, 8, asynchronous=True)
    some = [candidate("a", 0.1), candidate("a", 0.2, session=1)]
    await coordinator.begin(["a"])
    assert await coordinator.allocate("a", some) == ()  # 2 in the account; what comes later is for other groups
    assert await coordinator.more("a", 0) == ()
    await coordinator.begin(["b", "c"])
    assert await coordinator.allocate("b", some[:1]) == (some[0],)
    assert await coordinator.allocate("c", ()) == ()
    [told] = (await coordinator.decisions(["c"])).settled
    assert (told.order, told.account, told.reserve) == (2, 2.0, 4.0)


async def test_never_more_speculations_at_once_than_the_budget_has_prefixes() -> None:
    coordinator = BudgetCoordinator(CONFIG, 8)
    assert not await coordinator.may_speculate("a")  # no round is open
    await coordinator.begin(["a", "b", "c", "d"])  # floor(0.25 * 4 * 8 / 4) = 2 prefixes
    assert [await coordinator.may_speculate(uid) for uid in "abc"] == [True, True, False]
    await coordinator.end_speculation("a")
    assert await coordinator.may_speculate("c")
    for uid in "abcd":
        await coordinator.allocate(uid, ())
    await coordinator.end_speculation("b")
    assert not await coordinator.may_speculate("d")  # all is decided


async def test_errors_of_sessions_are_counted_and_told_once() -> None:
    coordinator = BudgetCoordinator(CONFIG, 8)
    for error in ("no server", "no room", "no server"):
        await coordinator.failed(error)
    assert await coordinator.take_errors() == {"no server": 2, "no room": 1}
    assert await coordinator.take_errors() == {}
