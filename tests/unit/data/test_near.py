"""Blocks find exactly the pairs that comparing hash by hash would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_axpo.data import dedup
from verl_axpo.data.dedup import near_pairs

ZERO = "0" * 64


def flipped(positions: set[int]) -> str:
    """The zero hash with these bits set."""
    return f"{sum(1 << position for position in positions):064x}"


bit_sets = st.sets(st.integers(0, 255), max_size=20)


@given(left=st.lists(bit_sets, max_size=6), right=st.lists(bit_sets, max_size=6), most=st.integers(0, 40))
def test_every_near_pair_is_found_once_and_no_other(left: list[set[int]], right: list[set[int]], most: int) -> None:
    expected = [
        (a, b, len(ours ^ theirs))
        for a, ours in enumerate(left)
        for b, theirs in enumerate(right)
        if len(ours ^ theirs) <= most
    ]
    assert list(near_pairs(list(map(flipped, left)), list(map(flipped, right)), most)) == expected


def test_more_than_a_block_is_compared_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedup, "BLOCK_PAIRS", 5)
    assert len(list(near_pairs([ZERO] * 7, [ZERO] * 7, 0))) == 49  # 7 x 7, a row of 7 at a time
