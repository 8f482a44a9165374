"""Trigger, ranking, budget and the configuration: which rollouts are resampled, in groups that fit on a page."""

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_axpo.core.budget import allocate, max_prefixes, ranked_order
from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.ranking import rank
from verl_axpo.core.trigger import is_triggered, subgroup
from verl_axpo.core.types import Candidate, Rollout, Status

AXPO = AxpoConfig()
NO_TOOL = AxpoConfig(target="no_tool", prefix="scratch", uncertainty="random")


def rollout(session: int, reward: float, *, tool: bool = True, **kwargs: Any) -> Rollout:
    return Rollout(uid="q", session=session, reward=reward, uses_tool=tool, **kwargs)


@pytest.mark.parametrize(
    ("rollouts", "expected"),
    [
        ([], False),
        ([rollout(0, 0, tool=False)], False),  # the subgroup is empty
        ([rollout(0, 0), rollout(1, 1, tool=False)], True),  # only the tool-using rollouts count
        ([rollout(0, 0), rollout(1, 1)], False),
        ([rollout(0, 0), rollout(1, 1, status=Status.INFRA_FAILURE)], True),  # its reward says nothing
        ([rollout(0, 0, status=Status.INFRA_FAILURE)], False),  # nor does its tool use
        ([rollout(0, 0, status=Status.TRUNCATED)], True),  # the policy's doing: wrong
        ([rollout(0, 1, status=Status.TRUNCATED), rollout(1, 0)], False),  # or right
        ([rollout(0, 0.99)], True),  # below the threshold
    ],
)
def test_a_group_triggers_when_its_tool_using_rollouts_are_there_and_all_wrong(
    rollouts: list[Rollout], expected: bool
) -> None:
    assert is_triggered(rollouts, AXPO) is expected


def test_threshold_budget_and_target_decide_the_trigger() -> None:
    half_right = [rollout(0, 0.5), rollout(1, 0, tool=False)]
    assert not is_triggered(half_right, AxpoConfig(correct_threshold=0.5))
    assert is_triggered(half_right, AXPO)
    assert not is_triggered(half_right, AxpoConfig(budget=0))
    assert is_triggered(half_right, NO_TOOL)
    assert [member.session for member in subgroup(half_right, NO_TOOL)] == [1]


def test_ranking_puts_the_least_confident_first_and_ties_by_session() -> None:
    failed = [rollout(0, 0, confidence=0.9), rollout(3, 0, confidence=0.4), rollout(2, 0, confidence=0.4)]
    assert [(candidate.session, candidate.score) for candidate in rank(failed, AXPO)] == [(2, 0.4), (3, 0.4), (0, 0.9)]


def test_ranking_by_entropy_puts_the_highest_first() -> None:
    failed = [rollout(0, 0, entropy=0.1), rollout(1, 0, entropy=2.5)]
    ranked = rank(failed, AxpoConfig(uncertainty="entropy"))
    assert [(candidate.session, candidate.score) for candidate in ranked] == [
        (1, -2.5),
        (0, -0.1),
    ]


def test_random_ranking_depends_on_seed_question_and_session_alone() -> None:
    config = AxpoConfig(uncertainty="random")
    forward = [rollout(n, 0) for n in range(8)]
    backward = forward[::-1]
    assert rank(forward, config) == rank(backward, config)
    seeded = [AxpoConfig(uncertainty="random", seed=seed) for seed in range(20)]
    orders = {tuple(candidate.session for candidate in rank(forward, config)) for config in seeded}
    assert len(orders) > 10
    assert all(0 <= candidate.score < 1 for candidate in rank(forward, config))


def test_nothing_is_ranked_without_a_trigger_and_infra_failures_never_are() -> None:
    assert rank([rollout(0, 1, confidence=0.5)], AXPO) == ()
    failed = [rollout(0, 0, confidence=0.5), rollout(1, 0, confidence=0.1, status=Status.INFRA_FAILURE)]
    assert [candidate.session for candidate in rank(failed, AXPO)] == [0]


@pytest.mark.parametrize("missing", [None, math.nan])
def test_a_missing_score_is_named(missing: float | None) -> None:
    with pytest.raises(ValueError, match=r"question q, session 5: got confidence=.*log-probabilities"):
        rank([rollout(5, 0, confidence=missing)], AXPO)


@pytest.mark.parametrize(
    ("budget", "questions", "rollouts", "k", "expected"),
    [
        (0.25, 128, 8, 4, 64),  # the paper's: 0.25 * 1024 = 256 continuations, 64 prefixes
        (0.25, 16, 8, 4, 8),
        (0.25, 3, 5, 4, 0),  # 3.75 continuations: not one whole prefix
        (0.29, 100, 1, 29, 1),  # 0.29 * 100 is 28.999... in floating point
        (0, 128, 8, 4, 0),
        (2.0, 2, 3, 5, 2),  # 12 continuations, two prefixes of 5
    ],
)
def test_the_budget_is_floored_to_whole_prefixes(
    budget: float, questions: int, rollouts: int, k: int, expected: int
) -> None:
    assert max_prefixes(questions, rollouts, AxpoConfig(budget=budget, num_continuations=k)) == expected


def test_allocation_is_breadth_first_then_by_score() -> None:
    def ranking(uid: str, *scores: float) -> tuple[Candidate, ...]:
        return tuple(Candidate(uid=uid, session=n, score=score) for n, score in enumerate(scores))

    ranked = {"a": ranking("a", 0.1, 0.2, 0.3), "b": ranking("b", 0.9), "c": (), "d": ranking("d", 0.5, 0.6)}
    # level 0: a 0.1, d 0.5, b 0.9; level 1: a 0.2, d 0.6; level 2: a 0.3
    counts = [{uid: len(some) for uid, some in allocate(ranked, limit).items()} for limit in range(8)]
    assert counts[0] == {"a": 0, "b": 0, "c": 0, "d": 0}
    assert counts[2] == {"a": 1, "b": 0, "c": 0, "d": 1}
    assert counts[3] == {"a": 1, "b": 1, "c": 0, "d": 1}
    assert counts[4] == {"a": 2, "b": 1, "c": 0, "d": 1}
    assert counts[6] == counts[7] == {"a": 3, "b": 1, "c": 0, "d": 2}


def test_candidates_are_listed_breadth_first() -> None:
    a1, a2 = Candidate(uid="a", session=1, score=0.5), Candidate(uid="a", session=2, score=0.6)
    b1 = Candidate(uid="b", session=0, score=0.5)
    c1, c2 = Candidate(uid="c", session=3, score=0.1), Candidate(uid="c", session=0, score=0.2)
    # level 1: c1 (0.1), then a1 and b1 (both 0.5) in batch order; level 2: c2 (0.2), a2 (0.6)
    assert ranked_order({"a": (a1, a2), "b": (b1,), "n": (), "c": (c1, c2)}) == (c1, a1, b1, c2, a2)


def test_equal_scores_go_to_the_question_that_was_asked_first() -> None:
    ranked = {uid: (Candidate(uid=uid, session=0, score=0.5),) for uid in ("z", "a")}
    assert allocate(ranked, 1) == {"z": ranked["z"], "a": ()}


rankings = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3), st.lists(st.floats(0, 1), max_size=5).map(sorted), max_size=8
)


@given(rankings, st.integers(0, 20))
def test_invariant_4_no_second_prefix_while_a_question_has_none(scores: dict[str, list[float]], limit: int) -> None:
    ranked = {
        uid: tuple(Candidate(uid=uid, session=n, score=score) for n, score in enumerate(some))
        for uid, some in scores.items()
    }
    selected = allocate(ranked, limit)
    assert list(selected) == list(ranked)
    assert sum(map(len, selected.values())) == min(limit, sum(map(len, ranked.values())))
    for uid, some in selected.items():
        assert some == ranked[uid][: len(some)]  # in ranked order, none skipped
    fewest = min((len(selected[uid]) for uid in ranked if len(selected[uid]) < len(ranked[uid])), default=None)
    assert fewest is None or max(map(len, selected.values())) <= fewest + 1


@given(st.decimals(0, 3, places=2), st.integers(1, 64), st.integers(2, 32), st.integers(2, 9))
def test_invariant_4_continuations_never_exceed_the_budget(budget: Any, questions: int, rollouts: int, k: int) -> None:
    prefixes = max_prefixes(questions, rollouts, AxpoConfig(budget=float(budget), num_continuations=k))
    assert prefixes * k <= budget * questions * rollouts < (prefixes + 1) * k


def test_defaults_are_the_papers() -> None:
    config = AxpoConfig.from_mapping({})
    assert config == AxpoConfig()
    assert (config.budget, config.num_continuations, config.correct_threshold) == (0.25, 4, 1.0)
    assert (config.uncertainty, config.target, config.prefix, config.advantage_group) == (
        "confidence",
        "tool",
        "fixed",
        "separate",
    )


def test_every_key_is_read() -> None:
    given_values = {
        "budget": 0.5,
        "num_continuations": 2,
        "uncertainty": "random",
        "allocation": "exact",
        "speculate": True,
        "target": "no_tool",
        "prefix": "scratch",
        "prefix_credit": False,
        "advantage_group": "merged",
        "correct_threshold": 0.5,
        "trace_dir": "trace",
        "example_trees": 0,
        "max_failed_share": 0.1,
        "seed": 7,
    }
    config = AxpoConfig.from_mapping(given_values)
    assert {name: getattr(config, name) for name in AxpoConfig.__slots__} == given_values


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"bugdet": 0.25}, "unknown keys ['bugdet']; valid keys are ['budget', 'num_continuations'"),
        ({"budget": -0.1}, "budget: got -0.1, expected a number >= 0"),
        ({"budget": True}, "budget: got True"),
        ({"budget": math.inf}, "budget: got inf"),
        ({"max_failed_share": 1.0}, "max_failed_share: got 1.0, expected a number >= 0 and below 1"),
        ({"num_continuations": 1}, "num_continuations: got 1, expected an integer >= 2"),
        ({"num_continuations": 4.0}, "num_continuations: got 4.0"),
        ({"uncertainty": "surprise"}, "got 'surprise', expected one of ['confidence', 'entropy', 'random']"),
        ({"allocation": "stream"}, "got 'stream', expected one of ['exact', 'streaming']"),
        ({"speculate": 1}, "speculate: got 1, expected true or false"),
        ({"allocation": "streaming", "speculate": True}, "set algorithm.axpo.speculate=false or"),
        ({"target": "no_tool"}, "set algorithm.axpo.prefix=scratch algorithm.axpo.uncertainty=random"),
        ({"prefix_credit": "false"}, "prefix_credit: got 'false', expected true or false"),
        ({"correct_threshold": math.nan}, "correct_threshold: got nan"),
        ({"seed": 0.5}, "seed: got 0.5"),
        ({"trace_dir": 3}, "trace_dir: got 3"),
    ],
)
def test_a_bad_configuration_says_what_to_do(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        AxpoConfig.from_mapping(mapping)
