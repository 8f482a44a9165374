"""`explore` from trigger to continuations, with a small stand-in for the rollout worker, and the step's metrics."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest

from verl_axpo.core.budget import allocate, max_prefixes
from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.metrics import step_metrics
from verl_axpo.core.step import explore
from verl_axpo.core.types import Candidate, Rollout, Status

AXPO = AxpoConfig(budget=0.5, num_continuations=2)


Groups = Sequence[Sequence[Rollout]]


def group(uid: str, *rollouts: tuple[float, bool, float]) -> list[Rollout]:
    """Rollouts as (reward, uses_tool, confidence)."""
    return [
        Rollout(uid=uid, session=n, reward=reward, uses_tool=tool, confidence=confidence if tool else None)
        for n, (reward, tool, confidence) in enumerate(rollouts)
    ]


# B = 3, N = 4, r = 1/2, K = 2: at most floor(6 / 2) = 3 prefixes, for the four candidates of questions a and b
A = group("a", (0, True, 0.8), (0, True, 0.3), (1, False, 0), (0, False, 0))
B = group("b", (0, True, 0.5), (0, True, 0.6), (0, False, 0), (0, False, 0))
C = group("c", (1, True, 0.1), (0, True, 0.2), (0, False, 0), (1, False, 0))  # a tool call is right: not triggered
STEP = [A, B, C]


def continuation(reward: float, status: Status = Status.OK, uid: str = "a", source: int = 1) -> Rollout:
    """Of `source`; what the host below returns belongs to the candidate that it was asked for."""
    return Rollout(uid=uid, session=-1, reward=reward, uses_tool=True, status=status, source=source)


def metrics_of(groups: Groups, resampled: Sequence[Rollout], *, questions: Sequence[str] = ()) -> dict[str, float]:
    uids = list(questions or (members[0].uid for members in groups))
    rollouts = [rollout for members in groups for rollout in members]
    return step_metrics([*rollouts, *resampled], AXPO, questions=uids, rollouts_per_question=4)


class Host:
    """A barrier over `expected` groups, and continuations by (uid, session); those not listed are all wrong."""

    def __init__(self, expected: int, outcomes: dict[tuple[str, int], Sequence[Rollout] | Exception | None]) -> None:
        self.expected, self.outcomes = expected, outcomes
        self.ranked: dict[str, tuple[Candidate, ...]] = {}
        self.resampled: list[tuple[str, int]] = []
        self.everyone = asyncio.Event()

    async def allocate(self, uid: str, ranked: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        self.ranked[uid] = ranked
        if len(self.ranked) == self.expected:
            self.everyone.set()
        await self.everyone.wait()
        return allocate(self.ranked, max_prefixes(self.expected, 4, AXPO))[uid]

    async def resample(self, candidate: Candidate) -> Sequence[Rollout] | None:
        self.resampled.append((candidate.uid, candidate.session))
        outcome = self.outcomes.get((candidate.uid, candidate.session), [continuation(0), continuation(0)])
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is None:
            return None
        return [replace(rollout, uid=candidate.uid, source=candidate.session) for rollout in outcome]


async def run(host: Host, groups: Groups, config: AxpoConfig = AXPO) -> list[Rollout]:
    explored = await asyncio.wait_for(
        asyncio.gather(
            *(
                explore(members, config, allocate=partial(host.allocate, members[0].uid), resample=host.resample)
                for members in groups
            )
        ),
        timeout=5,
    )
    return [rollout for continuations in explored for rollout in continuations]


def sources(resampled: Sequence[Rollout]) -> list[tuple[str, int | None]]:
    return list(dict.fromkeys((rollout.uid, rollout.source) for rollout in resampled))


async def test_a_step_resamples_the_most_uncertain_prefixes_breadth_first() -> None:
    host = Host(3, {("b", 0): [continuation(0), continuation(1)]})
    resampled = await run(host, STEP)
    assert host.ranked["c"] == ()
    assert {uid: [candidate.session for candidate in ranked] for uid, ranked in host.ranked.items() if ranked} == {
        "a": [1, 0],
        "b": [0, 1],
    }
    # first level a1 (0.3), b0 (0.5); second level b1 (0.6) before a0 (0.8), for which no budget is left
    assert sources(resampled) == [("a", 1), ("b", 0), ("b", 1)]
    assert [rollout.reward for rollout in resampled] == [0, 0, 0, 1, 0, 0]


async def test_without_budget_or_trigger_nothing_is_resampled_but_everybody_reports() -> None:
    for groups, config in ((STEP, AxpoConfig(budget=0)), ([C, C], AXPO)):
        distinct = [[replace(rollout, uid=str(n)) for rollout in members] for n, members in enumerate(groups)]
        host = Host(len(distinct), {})
        assert await run(host, distinct, config) == []
        assert host.ranked == {str(n): () for n in range(len(groups))}
        assert host.resampled == []


@pytest.mark.parametrize(
    "failure", [None, [], [continuation(1, Status.INFRA_FAILURE)] * 2, RuntimeError("engine died")]
)
async def test_invariant_7_a_failed_resample_is_dropped_alone(failure: Sequence[Rollout] | Exception | None) -> None:
    resampled = await run(Host(3, {("a", 1): failure}), STEP)
    assert sources(resampled) == [("b", 0), ("b", 1)]


async def test_a_partly_failed_resample_is_kept_whole() -> None:
    mixed = [continuation(0, Status.INFRA_FAILURE), continuation(1)]
    resampled = await run(Host(3, {("a", 1): mixed}), STEP)
    assert resampled[:2] == mixed


async def test_continuations_of_a_group_are_drawn_at_once() -> None:
    started: list[int] = []
    both = asyncio.Event()

    async def take_all(ranked: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        return ranked

    async def resample(candidate: Candidate) -> list[Rollout]:
        started.append(candidate.session)
        if len(started) == 2:
            both.set()
        await both.wait()
        return [continuation(1, source=candidate.session)]

    explored = await asyncio.wait_for(explore(A, AXPO, allocate=take_all, resample=resample), timeout=5)
    assert [rollout.source for rollout in explored] == [1, 0]


async def test_metrics_of_the_step() -> None:
    resampled = await run(Host(3, {("b", 0): [continuation(0), continuation(1)]}), STEP)
    metrics = metrics_of(STEP, resampled)
    assert metrics == pytest.approx(
        {
            "axpo/tool_use_rate": 6 / 12,
            "axpo/tool_all_wrong_rate": 2 / 3,  # a, b of a, b, c
            "axpo/tool_all_wrong_rate_after": 1 / 3,  # b is restored
            "axpo/no_tool_all_wrong_rate": 1 / 3,  # b
            "axpo/triggered": 2,
            "axpo/candidates": 4,
            "axpo/selected": 3,
            "axpo/budget_used": 3 / 3,
            "axpo/restore_rate": 1 / 2,  # b of a, b
            "axpo/recovery_rate": 1 / 3,  # one prefix of three
            "axpo/confidence/selected": (0.3 + 0.5 + 0.6) / 3,
            "axpo/confidence/unselected": 0.8,
            "axpo/infra_failures": 0,
            "axpo/failed_sessions": 0,
            "axpo/outcome/tool_correct": 1 / 12,
            "axpo/outcome/tool_wrong": 5 / 12,
            "axpo/outcome/no_tool_correct": 2 / 12,
            "axpo/outcome/no_tool_wrong": 4 / 12,
            "axpo/pass@1": (1 / 4 + 0 + 2 / 4) / 3,
            "axpo/pass@N": 2 / 3,
        }
    )


def test_from_scratch_only_a_correct_tool_call_restores_a_tool_using_subgroup() -> None:
    direct = replace(continuation(1), uses_tool=False)
    for answers, after in (([direct], 2 / 3), ([direct, continuation(1)], 1 / 3)):
        metrics = metrics_of(STEP, answers)
        assert metrics["axpo/tool_all_wrong_rate_after"] == pytest.approx(after)
        assert metrics["axpo/restore_rate"] == metrics["axpo/recovery_rate"] == 1


def test_metrics_count_infra_failures_and_leave_them_out_of_every_rate() -> None:
    broken = Rollout(uid="a", session=4, reward=1.0, uses_tool=True, status=Status.INFRA_FAILURE, confidence=0.0)
    lost = [continuation(1, Status.INFRA_FAILURE), continuation(0)]
    metrics = metrics_of([[*A, broken], B, C], lost)
    clean = metrics_of(STEP, [])
    assert metrics["axpo/infra_failures"] == 2
    assert metrics["axpo/recovery_rate"] == 0
    same = ["tool_use_rate", "tool_all_wrong_rate", "tool_all_wrong_rate_after", "candidates", "pass@1", "pass@N"]
    assert {name: metrics["axpo/" + name] for name in same} == {name: clean["axpo/" + name] for name in same}


def test_a_group_that_lost_a_session_is_not_ranked_but_counts_in_every_rate() -> None:
    metrics = metrics_of([A, B[:3], C], [continuation(0)] * 2, questions="abcd")  # no session of d is left
    expected = {
        "axpo/triggered": 1,  # a; b's two wrong tool calls are all wrong, but it has three rollouts of four
        "axpo/candidates": 2,
        "axpo/selected": 1,
        "axpo/budget_used": 1 / 4,  # floor(1/2 * 4 * 4 / 2) prefixes: the budget was made for four questions
        "axpo/confidence/unselected": 0.8,  # a's other tool call alone
        "axpo/tool_all_wrong_rate": 2 / 3,  # a, b of a, b, c
        "axpo/pass@1": (1 / 4 + 0 / 3 + 2 / 4) / 3,
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)


def test_an_average_over_nothing_is_left_out() -> None:
    metrics = metrics_of([C], [])
    assert metrics["axpo/selected"] == metrics["axpo/triggered"] == 0
    absent = {"restore_rate", "recovery_rate", "confidence/selected", "confidence/unselected"}
    assert not absent & {name.removeprefix("axpo/") for name in metrics}
    assert metrics_of([], [])["axpo/candidates"] == 0
