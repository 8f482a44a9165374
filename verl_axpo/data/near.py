"""Pairs of near hashes among hundreds of thousands, without comparing every pair.

hashes_A, hashes_B (uint64, 4 words each) -> 16 bands of 16 bits -> pairs that share a band -> those within the distance

Two hashes that differ in fewer bits than there are bands agree in at least one band (pigeonhole), so that no near pair
is missed. Everything runs in NumPy over sorted bands, in blocks of bounded memory.

Suffix: `_A`, `_B` the two sets of hashes, `_P` pairs.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

WORDS = 4  # of 64 bits
BANDS = 16  # of 16 bits
MOST_DISTANCE = BANDS - 1  # bits; beyond it the pigeonhole argument ends
BLOCK_PAIRS = 1 << 20  # candidates compared at once: about 100 MB

Words = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]


def words(hashes: Sequence[str]) -> Words:
    """Hex hashes of 256 bits as an array (len, 4)."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=">u8").astype(np.uint64).reshape(-1, WORDS)


def near_pairs(
    hashes_A: Words, hashes_B: Words, most: int, keys_A: Indices | None = None, keys_B: Indices | None = None
) -> tuple[Indices, Indices]:
    """Every pair (a, b) of indices whose hashes differ in at most `most` bits, once, ordered.

    Args:
        hashes_A, hashes_B: (A, 4) and (B, 4).
        most: bits, at most `MOST_DISTANCE`.
        keys_A, keys_B: (A,) and (B,); where given, only pairs with equal keys (the same question) are looked at.

    Raises:
        ValueError: a distance that bands cannot promise to find.
    """
    if not 0 <= most <= MOST_DISTANCE:
        raise ValueError(f"distance: got {most} bits, expected 0 to {MOST_DISTANCE}")
    if not len(hashes_A) or not len(hashes_B):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    found = []
    for band in range(BANDS):
        band_A, band_B = _band(hashes_A, band, keys_A), _band(hashes_B, band, keys_B)
        for a_P, b_P in _same(band_A, band_B):
            close = _distances(hashes_A[a_P], hashes_B[b_P]) <= most
            found.append(a_P[close] * len(hashes_B) + b_P[close])
    codes_P = np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)
    return codes_P // len(hashes_B), codes_P % len(hashes_B)


def _band(hashes: Words, band: int, keys: Indices | None) -> Indices:
    """One band of each hash as a number, the key in the bits above it."""
    word, place = divmod(band, BANDS // WORDS)
    bits = ((hashes[:, word] >> np.uint64(16 * place)) & np.uint64(0xFFFF)).astype(np.int64)
    banded: Indices = bits if keys is None else (keys << 16) | bits
    return banded


def _same(band_A: Indices, band_B: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Blocks of index pairs with equal bands."""
    order_B = np.argsort(band_B, kind="stable")
    sorted_B = band_B[order_B]
    first_A = np.searchsorted(sorted_B, band_A, side="left")
    counts_A = np.searchsorted(sorted_B, band_A, side="right") - first_A
    ends_A = np.cumsum(counts_A)
    begin = 0
    while begin < len(band_A):
        done = ends_A[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends_A, done + BLOCK_PAIRS, side="right")))
        counts = counts_A[begin:end]
        a_P = np.repeat(np.arange(begin, end), counts)
        within_P = np.arange(len(a_P)) - np.repeat(np.cumsum(counts) - counts, counts)
        yield a_P, order_B[np.repeat(first_A[begin:end], counts) + within_P]
        begin = end


def _distances(left_P: Words, right_P: Words) -> Indices:
    differing: Indices = np.bitwise_count(left_P ^ right_P).sum(axis=1, dtype=np.int64)
    return differing
