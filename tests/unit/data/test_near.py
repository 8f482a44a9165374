"""Bands find exactly the pairs that comparing all of them would."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_axpo.data import near
from verl_axpo.data.near import MOST_DISTANCE, near_pairs, words

ZERO = "0" * 64


def flipped(positions: set[int]) -> str:
    """The zero hash with these bits set."""
    return f"{sum(1 << position for position in positions):064x}"


bit_sets = st.sets(st.integers(0, 255), max_size=20)


@given(left=st.lists(bit_sets, max_size=6), right=st.lists(bit_sets, max_size=6), most=st.integers(0, MOST_DISTANCE))
def test_every_near_pair_is_found_once_and_no_other(left: list[set[int]], right: list[set[int]], most: int) -> None:
    a_P, b_P = near_pairs(words([flipped(one) for one in left]), words([flipped(one) for one in right]), most)
    expected = [(a, b) for a, one in enumerate(left) for b, other in enumerate(right) if len(one ^ other) <= most]
    assert list(zip(a_P.tolist(), b_P.tolist(), strict=True)) == expected


def test_the_worst_case_of_the_pigeonhole_one_bit_in_every_band_but_one() -> None:
    spread = flipped({16 * band for band in range(MOST_DISTANCE)})
    assert len(near_pairs(words([ZERO]), words([spread]), MOST_DISTANCE)[0]) == 1


def test_only_equal_keys_are_paired() -> None:
    hashes = words([ZERO, ZERO, ZERO])
    a_P, b_P = near_pairs(hashes, hashes, 0, np.array([7, 8, 7]), np.array([7, 8, 9]))
    assert list(zip(a_P.tolist(), b_P.tolist(), strict=True)) == [(0, 0), (1, 1), (2, 0)]


def test_a_bucket_beyond_the_block_is_cut_into_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "BLOCK_PAIRS", 5)
    hashes = words([ZERO] * 7)
    assert len(near_pairs(hashes, hashes, 0)[0]) == 49  # 7 x 7, a row of 7 at a time


def test_a_distance_beyond_the_promise_is_refused() -> None:
    with pytest.raises(ValueError, match="got 16 bits, expected 0 to 15"):
        near_pairs(words([ZERO]), words([ZERO]), 16)
