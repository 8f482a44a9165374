"""The token bucket: which prefixes it selects and when, by hand; and properties that hold for any order of settling."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from verl_axpo.core.budget import allocate, max_prefixes
from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.streaming import Settlement, TokenBucket, affordable, replay
from verl_axpo.core.types import Candidate

# each group adds r * N = 2 continuations and a prefix takes K = 4, so two groups pay for one prefix
PAPER, N = AxpoConfig(allocation="streaming"), 8


def ranking(uid: str, *scores: float) -> tuple[Candidate, ...]:
    return tuple(Candidate(uid=uid, session=n, score=score) for n, score in enumerate(scores))


def names(selected: dict[str, tuple[Candidate, ...]]) -> dict[str, list[int]]:
    return {uid: [candidate.session for candidate in candidates] for uid, candidates in selected.items() if candidates}


def test_a_group_gets_its_first_prefix_as_soon_as_the_account_allows() -> None:
    bucket = TokenBucket(PAPER, N)
    bucket.settle("a", ranking("a", 0.9, 0.95), to_come=3)  # 2 in the account: it waits
    assert names(bucket.selected) == {}
    bucket.settle("b", (), to_come=2)  # 4: the second group's share pays for it
    assert names(bucket.selected) == {"a": [0]}
    bucket.settle(
        "c", ranking("c", 0.1), to_come=1
    )  # 2 left: `d` is less confident than `a`, but `a` was selected before
    assert bucket.account == 2
    bucket.settle("d", ranking("d", 0.05), to_come=0)  # 4: `d` goes before `c`, which waits
    assert names(bucket.selected) == {"a": [0], "d": [0]}
    bucket.close(["d", "c", "b", "a"])  # 0 left
    assert names(bucket.selected) == {"a": [0], "d": [0]}


def test_second_prefixes_are_paid_for_once_all_groups_to_come_could_have_a_first() -> None:
    bucket = TokenBucket(PAPER, N)
    for at, uid in enumerate("nmlk"):
        bucket.settle(uid, (), to_come=7 - at)
    bucket.settle("a", ranking("a", 0.1, 0.4, 0.6), to_come=3)  # 10 - 4; three more groups may lack 2 each
    bucket.settle("b", ranking("b", 0.3, 0.5), to_come=2)  # 8 - 4
    assert names(bucket.selected) == {"a": [0], "b": [0]}
    bucket.settle("o", (), to_come=1)  # 6, of which 2 are kept: a second prefix, that of the lowest score
    assert names(bucket.selected) == {"a": [0, 1], "b": [0]}
    bucket.settle("p", ranking("p", 0.9), to_come=0)  # 4 - 4
    bucket.close([*"nmlkabop"])
    assert names(bucket.selected) == {"a": [0, 1], "b": [0], "p": [0]}
    assert bucket.account == 0


def test_at_once_second_prefixes_come_from_a_surplus() -> None:
    candidates = ranking("a", 0.1, 0.2, 0.3)
    assert affordable(candidates, Fraction(3), 4, Fraction(8)) == ()
    assert affordable(candidates, Fraction(15), 4, Fraction(8)) == candidates[:1]  # 15 - 4 - 4 is below 8
    assert affordable(candidates, Fraction(16), 4, Fraction(8)) == candidates[:2]
    assert affordable((), Fraction(16), 4, Fraction(8)) == ()


def test_the_account_is_exact() -> None:
    bucket = TokenBucket(AxpoConfig(budget=0.29, num_continuations=29, allocation="streaming"), 1)
    for at in range(99):
        bucket.settle(str(at), (), to_come=99 - at)
    bucket.settle("a", ranking("a", 0.1), to_come=0)  # 0.29 * 100 is 28.999... in floating point
    assert names(bucket.selected) == {"a": [0]}


groups = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.lists(st.floats(0, 1), max_size=4), max_size=12)
configs = st.builds(
    lambda budget, k: AxpoConfig(budget=budget, num_continuations=k, allocation="streaming"),
    st.sampled_from([0, 0.1, 0.25, 0.29, 1.0, 2.0]),
    st.integers(2, 5),
)


def settled(
    scores: dict[str, list[float]], config: AxpoConfig, order: list[str]
) -> tuple[TokenBucket, list[Settlement], dict[str, tuple[Candidate, ...]]]:
    ranked = {uid: ranking(uid, *sorted(scores[uid])) for uid in scores}
    bucket, told = TokenBucket(config, N), []
    for at, uid in enumerate(order):
        told.append(bucket.settle(uid, ranked[uid], len(order) - at - 1))
        paid = config.num_continuations * sum(map(len, bucket.selected.values()))
        assert paid <= Fraction(str(config.budget)) * N * len(told)  # r times the rollouts so far
    bucket.close(list(scores))
    return bucket, told, ranked


@given(groups, configs, st.randoms(use_true_random=False))
def test_the_budget_of_exact_is_spent_and_nobody_gets_a_second_prefix_first(
    scores: dict[str, list[float]], config: AxpoConfig, rng: object
) -> None:
    order = list(scores)
    rng.shuffle(order)  # type: ignore[attr-defined]
    bucket, told, ranked = settled(scores, config, order)
    limit = max_prefixes(len(scores), N, config)
    exact = allocate(ranked, limit)
    number = {uid: len(candidates) for uid, candidates in bucket.selected.items()}
    assert sum(number.values()) == sum(map(len, exact.values()))
    for uid, candidates in bucket.selected.items():
        assert candidates == ranked[uid][: number[uid]]  # the most uncertain first, none skipped
    triggered = [uid for uid in ranked if ranked[uid]]
    if any(count > 1 for count in number.values()):
        assert all(number[uid] for uid in triggered)
    # It differs from `exact` only in which groups get a prefix if the account is short
    if len(triggered) <= limit:
        assert all(number[uid] for uid in triggered)
    if sum(map(len, ranked.values())) <= limit:
        assert bucket.selected == {uid: exact[uid] for uid in order}
    replayed, selected = replay(told, ranked, config, questions=list(scores), rollouts_per_question=N)
    assert (list(replayed), selected) == (told, bucket.selected)


@given(groups, configs, st.data())
def test_at_once_the_account_never_falls_below_zero_and_any_part_of_a_run_can_be_replayed(
    scores: dict[str, list[float]], config: AxpoConfig, data: st.DataObject
) -> None:
    ranked = {uid: ranking(uid, *sorted(some)) for uid, some in scores.items()}
    bucket, told, selected = TokenBucket(config, N), [], {}
    for uid, candidates in ranked.items():
        settlement, selected[uid] = bucket.settle_at_once(uid, candidates, bucket.deposit(3))
        told.append(settlement)
        assert bucket.account >= 0
        paid = config.num_continuations * sum(map(len, selected.values()))
        assert bucket.account == Fraction(str(config.budget)) * N * len(told) - paid
        assert len(selected[uid]) < 2 or bucket.account >= bucket.deposit(3)
    part = [settlement for settlement in told if data.draw(st.booleans())]
    replayed, again = replay(part, ranked, config, questions=list(scores), rollouts_per_question=N)
    assert list(replayed) == part
    assert again == {settlement.uid: selected[settlement.uid] for settlement in part}
