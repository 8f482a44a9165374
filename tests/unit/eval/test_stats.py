"""Intervals and p-values: small cases by hand, and the properties that hold for any."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_axpo.report.stats import difference, estimate


def test_a_mean_of_equal_values_has_no_width() -> None:
    one = estimate([np.array([0.25, 0.25, 0.25])])
    assert (one.value, one.low, one.high) == (0.25, 0.25, 0.25)


def test_two_questions_by_hand() -> None:
    # resampling {0, 1} twice gives means 0, 1/2, 1 with probability 1/4, 1/2, 1/4: both 2.5 % tails lie inside the ends
    one = estimate([np.array([0.0, 1.0])])
    assert (one.value, one.low, one.high) == (0.5, 0.0, 1.0)


def test_a_large_sample_has_the_normal_interval() -> None:
    # 400 questions, half of them right: standard error 0.5 / 20 = 0.025, 1.96 of it on either side
    one = estimate([np.array([0.0, 1.0] * 200)])
    assert one.low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.004)
    assert one.high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.004)


def test_an_average_weighs_benchmarks_not_questions() -> None:
    assert estimate([np.array([1.0]), np.array([0.0, 0.0, 0.0])]).value == 0.5


def test_unusable_questions_are_left_out_and_an_empty_benchmark_leaves_no_average() -> None:
    assert estimate([np.array([1.0, math.nan])]).value == 1.0
    assert math.isnan(estimate([np.array([1.0, math.nan]), np.array([math.nan])]).value)
    assert math.isnan(estimate([np.array([math.nan])]).value)
    nothing = difference([np.array([])])
    assert math.isnan(nothing.p_value)
    assert nothing.questions == 0


def test_a_seed_makes_it_the_same_twice_and_another_seed_does_not() -> None:
    values = [np.linspace(0, 1, 37)]
    assert estimate(values) == estimate(values)
    assert estimate(values).low != estimate(values, seed=1).low


def test_no_difference_has_p_one() -> None:
    one = difference([np.zeros(10)])
    assert (one.delta.value, one.p_value, one.questions) == (0.0, 1.0, 10)


def test_the_p_value_of_four_equal_gains_by_hand() -> None:
    # 16 ways to sign four deltas of 1; the mean is as extreme as seen in two of them (all plus, all minus): p = 1/8
    assert difference([np.ones(4)]).p_value == pytest.approx(1 / 8, abs=0.01)


def test_the_p_value_of_two_benchmarks_by_hand() -> None:
    # means of (+-1) and of (+-1, +-1)/2; the average is +-1 in 2 of 8 signings: p = 1/4
    one = difference([np.ones(1), np.ones(2)])
    assert one.p_value == pytest.approx(1 / 4, abs=0.015)
    assert (one.delta.value, one.questions) == (1.0, 3)


def test_draws_in_pieces_are_as_many_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verl_axpo.report.stats.CHUNK", 64)
    # 1 / (1 + draws) is the least a p-value can be: with 30 gains no random signing comes near
    assert difference([np.ones(30)], draws=99).p_value == 0.01


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=30))
def test_the_mean_lies_in_its_interval_and_the_interval_in_the_range(values: list[float]) -> None:
    one = estimate([np.array(values)], draws=200)
    assert min(values) - 1e-9 <= one.low <= one.high <= max(values) + 1e-9
    assert one.value == pytest.approx(sum(values) / len(values))


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=1, max_size=20))
def test_swapping_the_runs_turns_the_sign_and_keeps_the_p_value(deltas: list[float]) -> None:
    there, back = (difference([sign * np.array(deltas)], draws=200) for sign in (1, -1))
    assert back.delta.value == -there.delta.value
    assert back.p_value == there.p_value
