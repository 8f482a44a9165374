"""The three streams of equations 2-4 against numbers worked out by hand, and the invariants of advantages."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from verl_axpo.core.advantage import row_advantages
from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.step import recovery
from verl_axpo.core.types import Rollout, Status

AXPO = AxpoConfig()


def row(uid: str, session: int, reward: float, **kwargs: Any) -> Rollout:
    return Rollout(uid=uid, session=session, reward=reward, uses_tool=True, **kwargs)


def rows(uid: str, rewards: list[float]) -> list[Rollout]:
    return [row(uid, n, reward) for n, reward in enumerate(rewards)]


def continuations(uid: str, source: int, rewards: list[float], **kwargs: Any) -> list[Rollout]:
    return [row(uid, 100 * (source + 1) + k, reward, source=source, **kwargs) for k, reward in enumerate(rewards)]


def advantages(some: list[Rollout], config: AxpoConfig = AXPO) -> list[float]:
    """With epsilon 0, for round numbers; its default is pinned by the comparison with verl."""
    result: list[float] = row_advantages(some, config, epsilon=0.0).tolist()
    return result


# The example of this file: four rollouts, the first right without a tool, the other three wrong with one; the prefix of
# session 1 is resampled, one of four continuations is right.
SOURCE = rows("q", [1, 0, 0, 0])
RECOVERED = continuations("q", 1, [0, 1, 0, 0])
# One of four right: mean 1/4, unbiased variance (9/16 + 3 * 1/16) / 3 = 1/4, std 1/2
ONE_OF_FOUR_RIGHT, ONE_OF_FOUR_WRONG = 1.5, -0.5
# Two of four right: mean 1/2, variance 4 * 1/4 / 3 = 1/3, so (1 - 1/2) * sqrt(3)
TWO_OF_FOUR_RIGHT = 0.75**0.5


def test_the_three_streams() -> None:
    # 3: GRPO on the original rewards [1, 0, 0, 0]; 2: session 1 by its R = 1 among r~ = [1, 1, 0, 0]
    group = [ONE_OF_FOUR_RIGHT, TWO_OF_FOUR_RIGHT, ONE_OF_FOUR_WRONG, ONE_OF_FOUR_WRONG]
    # 1: the continuations among themselves
    own = [ONE_OF_FOUR_WRONG, ONE_OF_FOUR_RIGHT, ONE_OF_FOUR_WRONG, ONE_OF_FOUR_WRONG]
    assert advantages(SOURCE + RECOVERED) == pytest.approx(group + own)


def test_a_prefix_that_was_not_recovered_keeps_its_grpo_advantage() -> None:
    # R = 0 replaces a reward of 0; four equal rewards have std 0, so the continuations get 0
    failed = SOURCE + continuations("q", 1, [0, 0, 0, 0])
    assert torch.equal(row_advantages(failed, AXPO)[:4], row_advantages(rows("q", [1, 0, 0, 0]), AXPO))
    assert row_advantages(failed, AXPO)[4:].tolist() == [0, 0, 0, 0]


def test_an_all_wrong_group_learns_from_its_recovered_prefix() -> None:
    # GRPO learns nothing from [0, 0, 0, 0]; here r~ = [0, 1, 0, 0] for the prefix alone
    result = row_advantages(rows("q", [0, 0, 0, 0]) + RECOVERED, AXPO)
    assert result[:4].tolist() == pytest.approx([0, ONE_OF_FOUR_RIGHT, 0, 0], abs=1e-5)


def test_two_sources_of_a_question_do_not_see_each_others_recovery() -> None:
    some = rows("q", [1, 0, 0, 0]) + continuations("q", 2, [1, 0, 0, 0]) + continuations("q", 3, [1, 1, 0, 0])
    # each source among r~ = [1, 0, 1, 0] or [1, 0, 0, 1]: two of four right; the others among [1, 0, 0, 0]
    assert advantages(some)[:4] == pytest.approx([1.5, -0.5, TWO_OF_FOUR_RIGHT, TWO_OF_FOUR_RIGHT])
    assert advantages(some)[8:] == pytest.approx(2 * [TWO_OF_FOUR_RIGHT] + 2 * [-TWO_OF_FOUR_RIGHT])


def test_without_prefix_credit_the_prefix_term_is_gone() -> None:
    expected = [1.5, 0, -0.5, -0.5, -0.5, 1.5, -0.5, -0.5]
    assert advantages(SOURCE + RECOVERED, AxpoConfig(prefix_credit=False)) == pytest.approx(expected)


def test_from_scratch_the_source_stays_an_ordinary_rollout() -> None:
    expected = [1.5, -0.5, -0.5, -0.5, -0.5, 1.5, -0.5, -0.5]
    assert advantages(SOURCE + RECOVERED, AxpoConfig(prefix="scratch")) == pytest.approx(expected)


def test_merged_makes_the_continuations_rollouts_of_the_group() -> None:
    config = AxpoConfig(advantage_group="merged")
    # Eight rewards, two of them 1: mean 1/4, variance (2 * 9/16 + 6 * 1/16) / 7 = 3/14; right 3/4 / s, wrong -1/4 / s
    s = (3 / 14) ** 0.5
    right, wrong = 0.75 / s, -0.25 / s
    assert advantages(SOURCE + RECOVERED, config) == pytest.approx(
        [right, wrong, wrong, wrong, wrong, right, wrong, wrong]
    )


def test_infra_failures_get_nothing_and_stand_outside_mean_and_std() -> None:
    broken = row("q", 9, 1.0, status=Status.INFRA_FAILURE)
    lost = continuations("q", 1, [1.0], status=Status.INFRA_FAILURE)
    result = advantages([broken, *SOURCE, *lost, *RECOVERED])
    expected = advantages(SOURCE + RECOVERED)
    assert result == [0, *expected[:4], 0, *expected[4:]]


@pytest.mark.parametrize("lost", [[], [row("q", n, n, status=Status.INFRA_FAILURE) for n in (0, 1)]])
@pytest.mark.parametrize("normalize_std", [True, False])
def test_the_one_rollout_that_survived_of_its_group_has_no_advantage(lost: list[Rollout], normalize_std: bool) -> None:
    """verl's estimator would train it with its reward: 0.999999 for a right answer."""
    survivor = row("q", 3, 1.0)
    assert row_advantages([*lost, survivor], AXPO, normalize_std=normalize_std)[-1] == 0
    # If it is resampled, it has no other rollout to be compared with either
    chosen = row("q", 3, 0.0)
    assert row_advantages([*lost, chosen, *continuations("q", 3, [1, 0, 0, 0])], AXPO)[len(lost)] == 0


def test_a_lone_continuation_has_no_peer() -> None:
    some = rows("q", [1, 0, 0, 0]) + continuations("q", 1, [1])
    assert advantages(some)[4] == 0
    assert advantages(some)[1] == pytest.approx(TWO_OF_FOUR_RIGHT)  # it still shows that the prefix can succeed


def test_invariant_7_a_failed_resample_leaves_the_group_as_grpo_has_it() -> None:
    lost = continuations("q", 1, [1, 1, 0, 0], status=Status.INFRA_FAILURE)
    assert torch.equal(row_advantages(SOURCE + lost, AXPO)[:4], row_advantages(rows("q", [1, 0, 0, 0]), AXPO))


def test_a_selected_infra_failure_gets_nothing() -> None:
    some = [row("q", 1, 0.0, status=Status.INFRA_FAILURE), *RECOVERED]
    assert row_advantages(some, AXPO)[0] == 0


def test_without_std_advantages_are_differences() -> None:
    result = row_advantages(SOURCE + RECOVERED, AXPO, normalize_std=False).tolist()
    assert result == [0.75, 0.5, -0.25, -0.25, -0.25, 0.75, -0.25, -0.25]


def test_no_rows_no_advantages() -> None:
    assert row_advantages([], AXPO).shape == (0,)


def test_recovery_is_a_matter_of_usable_correct_continuations() -> None:
    def scored(*rewards: float, status: Status = Status.OK) -> list[Rollout]:
        return [row("q", n, reward, status=status) for n, reward in enumerate(rewards)]

    assert recovery(scored(0, 0.9), AXPO) == 0
    assert recovery(scored(0, 0.9), AxpoConfig(correct_threshold=0.9)) == 1
    assert recovery(scored(0) + scored(1, status=Status.INFRA_FAILURE), AXPO) == 0
    assert recovery(scored(1, status=Status.INFRA_FAILURE), AXPO) is None
    assert recovery(scored(0) + scored(1, status=Status.TRUNCATED), AXPO) == 1


binary = st.sampled_from([0.0, 1.0])
statuses = st.sampled_from([Status.OK, Status.OK, Status.TRUNCATED, Status.INFRA_FAILURE])


@st.composite
def batches(draw: st.DrawFn) -> list[Rollout]:
    """Questions of 1-8 rollouts, some of them sources with 2-5 continuations, everything shuffled."""
    some: list[Rollout] = []
    for uid in map(str, range(draw(st.integers(1, 4)))):
        for session in range(draw(st.integers(1, 8))):
            selected = draw(st.booleans())
            status = draw(statuses.filter(lambda s: s is not Status.INFRA_FAILURE)) if selected else draw(statuses)
            reward = 0.0 if selected else draw(binary)
            some.append(row(uid, session, reward, status=status))
            for k in range(draw(st.integers(2, 5)) if selected else 0):
                of_source: dict[str, Any] = {"source": session, "status": draw(statuses)}
                some.append(row(uid, 100 * (session + 1) + k, draw(binary), **of_source))
    return draw(st.permutations(some))


@given(batches())
def test_a_row_depends_on_its_own_question_alone(some: list[Rollout]) -> None:
    by_question = {uid: [member for member in some if member.uid == uid] for uid in {member.uid for member in some}}
    together = dict(zip(map(id, some), row_advantages(some, AXPO).tolist(), strict=True))
    for mine in by_question.values():
        assert [together[id(member)] for member in mine] == row_advantages(mine, AXPO).tolist()


@given(batches())
def test_ordinary_rows_of_any_group_keep_their_grpo_advantage(some: list[Rollout]) -> None:
    plain = [rollout for rollout in some if rollout.source is None]
    grpo = dict(zip(((r.uid, r.session) for r in plain), row_advantages(plain, AXPO).tolist(), strict=True))
    sources = {(rollout.uid, rollout.source) for rollout in some}
    for rollout, value in zip(some, row_advantages(some, AXPO).tolist(), strict=True):
        if rollout.source is None and (rollout.uid, rollout.session) not in sources:
            assert value == grpo[rollout.uid, rollout.session]


@given(batches())
def test_a_source_is_credited_exactly_when_it_recovers(some: list[Rollout]) -> None:
    plain = [rollout for rollout in some if rollout.source is None]
    grpo = dict(zip(((r.uid, r.session) for r in plain), row_advantages(plain, AXPO).tolist(), strict=True))
    for rollout, value in zip(some, row_advantages(some, AXPO).tolist(), strict=True):
        mine = [other for other in some if (other.uid, other.source) == (rollout.uid, rollout.session)]
        if mine:
            others = [r.reward for r in plain if (r.uid, r.session) != (rollout.uid, rollout.session)
                      and r.uid == rollout.uid and r.status is not Status.INFRA_FAILURE]  # fmt: skip
            if recovery(mine, AXPO):
                # positive, unless every other rollout is right or lost, so that R = 1 is only average
                assert value == pytest.approx(0, abs=1e-6) if all(reward == 1 for reward in others) else value > 0
            else:
                assert value == grpo[rollout.uid, rollout.session]


@given(batches())
def test_advantages_of_one_prefix_sum_to_zero_and_infra_failures_get_none(some: list[Rollout]) -> None:
    values = row_advantages(some, AXPO)
    for rollout, value in zip(some, values.tolist(), strict=True):
        assert rollout.status is not Status.INFRA_FAILURE or value == 0
    for source in {(rollout.uid, rollout.source) for rollout in some if rollout.source is not None}:
        mine = [value for rollout, value in zip(some, values, strict=True) if (rollout.uid, rollout.source) == source]
        assert float(sum(mine)) == pytest.approx(0, abs=1e-4)


@given(batches(), st.sampled_from(["separate", "merged"]), st.booleans(), st.booleans())
def test_every_setting_gives_finite_advantages(some: list[Rollout], group: Any, credit: bool, std: bool) -> None:
    config = AxpoConfig(advantage_group=group, prefix_credit=credit)
    assert torch.isfinite(row_advantages(some, config, normalize_std=std)).all()
