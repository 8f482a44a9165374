"""Where RL starts, in figures: by hand, and from the lines of an evaluation."""

import pytest

from examples.tiny_world.calibration import BANDS, evenly, figures, intents, ratio, table


def test_the_figures_of_three_questions() -> None:
    right, wrong = True, False
    groups = [
        [(wrong, True), (wrong, True), (right, False), (wrong, False)],  # the tool subgroup is all wrong
        [(right, True), (wrong, False), (wrong, False), (wrong, False)],  # the other one is
        [(right, False), (right, False), (wrong, False), (right, False)],  # there is no tool subgroup
    ]
    measured = {name: number.value for name, number in figures(groups).items()}
    assert measured["tool use"] == 3 / 12
    assert measured["tool-using subgroups all wrong"] == 1 / 2
    assert measured["no-tool subgroups all wrong"] == 1 / 3
    assert measured["success of tool-using rollouts"] == 1 / 3
    assert measured["success of rollouts without a tool"] == 4 / 9


def test_prefixes_that_collapse() -> None:
    measured = intents([["a", "a", "a"], ["a", "b", "c"], ["a", "a", "b"]])
    assert measured["distinct first calls of a prefix"].value == 2
    assert measured["prefixes with one and the same call"].value == pytest.approx(1 / 3)


def test_an_interval_holds_its_share_and_is_the_same_each_time() -> None:
    counts = [(1.0, 2.0), (0.0, 2.0), (2.0, 2.0), (1.0, 0.0)]  # the last has nothing to count
    number = ratio(counts)
    assert number.value == 0.5
    assert 0 <= number.low < 0.5 < number.high <= 1
    assert ratio(counts) == number
    with pytest.raises(ValueError, match="no rollout of this kind"):
        ratio([(0.0, 0.0)])


def test_the_table_says_which_figures_are_inside() -> None:
    measured = dict.fromkeys(BANDS, ratio([(1.0, 4.0), (1.0, 4.0)]))  # 25 % everywhere
    inside = {line.split("|")[1].strip(): line.split("|")[4].strip() for line in table(measured).splitlines()[2:]}
    assert inside == {
        "tool use": "yes",
        "tool-using subgroups all wrong": "no",
        "no-tool subgroups all wrong": "yes",
        "success of tool-using rollouts": "no",
        "success of rollouts without a tool": "no",
        "distinct first calls of a prefix": "no",
        "prefixes with one and the same call": "yes",
    }


@pytest.mark.parametrize(("keys", "number"), [(150, 96), (192, 96), (97, 96), (40, 96), (0, 96)])
def test_prefixes_come_from_every_family(keys: int, number: int) -> None:
    """Sorted keys are ordered by family, so taking the first 96 of 150 would leave the last family out."""
    names = ("perception", "reasoning", "search")
    some = sorted((names[at % 3], f"q{at}", 0) for at in range(keys))
    chosen = evenly(some, number)
    assert len(chosen) == len(set(chosen)) == min(keys, number)
    for name in names:  # each family's share of all, to less than one prefix
        share = sum(key[0] == name for key in some) * len(chosen) / max(keys, 1)
        assert abs(sum(key[0] == name for key in chosen) - share) < 1
