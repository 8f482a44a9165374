"""The same problem twice, or a benchmark's problem among the training data: found, dropped, reported.

entries of the problems --.-> against the benchmarks: an image near one of theirs, or their question
those of the benchmarks --'-> inside: the question, the answer and all images of an earlier problem
                                                                                -> drops with reasons

image     perceptual hashes differ in at most `most_bits` of 256. Inside, every image in its place; against a
          benchmark, any image: one shared picture is a leak.
question  equal after `normalised`. Against a benchmark without options and what follows them, and without an image
          only when it has at least `LEAST_WORDS` words or no image goes with it: "what is the colour of the car" is
          nobody's. Inside, only with the same answer (`same_answer`): "find x" under six triangles is six problems.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from verl_axpo.data.answer_types import same_answer
from verl_axpo.data.entries import Entry
from verl_axpo.data.fingerprint import HASH_BITS, distance

MOST_BITS = 12
LEAST_WORDS = 12
WORDS = 4  # of 64 bits, in a hash
BLOCK_PAIRS = 1 << 20  # compared at once: about 100 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """A problem left out: whom it repeats, by which condition, and in how many bits the images differ (None: by the
    question alone)."""

    id: str
    source: str
    scope: Literal["inside", "against"]
    same_as: str
    in_source: str
    by: str
    bits: int | None


def find_drops(entries: Sequence[Entry], references: Sequence[Entry], most_bits: int = MOST_BITS) -> list[Drop]:
    """What to leave out, in the order of `entries`: of two equal problems the earlier one stays.

    A problem that a benchmark has is dropped first and protects nobody: its repetitions are dropped by the same rule.

    Args:
        entries: of the training data.
        references: of the benchmarks.
        most_bits: in which near images may differ.

    Raises:
        ValueError: a number of bits that no hash has.
    """
    if not 0 <= most_bits <= HASH_BITS:
        raise ValueError(f"most_bits: got {most_bits}, expected 0 to {HASH_BITS}")
    leaks = _against(entries, references, most_bits)
    repeats = _inside([entry for entry in entries if entry.id not in leaks], most_bits)
    return [drop for entry in entries if (drop := leaks.get(entry.id) or repeats.get(entry.id)) is not None]


def _against(entries: Sequence[Entry], references: Sequence[Entry], most_bits: int) -> dict[str, Drop]:
    by_image = _image_matches(entries, references, most_bits)
    telling: dict[str, Entry] = {}  # the first with a question that says enough without its image
    for reference in references:
        if not reference.phashes or len(reference.stem.split()) >= LEAST_WORDS:
            telling.setdefault(reference.stem, reference)
    drops = {}
    for index, entry in enumerate(entries):
        images = by_image.get(index, {})
        both = [other for other in images if references[other].stem == entry.stem]
        if images:
            nearest = min(both) if both else min(images, key=lambda other: (images[other], other))
            by = "image and question" if both else "image"
            drops[entry.id] = _drop(entry, references[nearest], "against", by, images[nearest])
        elif entry.stem in telling:
            drops[entry.id] = _drop(entry, telling[entry.stem], "against", "question", None)
    return drops


def _image_matches(entries: Sequence[Entry], others: Sequence[Entry], most: int) -> dict[int, dict[int, int]]:
    """For each entry the others that share any image with it, and in how many bits the nearest pair differs."""
    owner_A, hashes_A = _flat(entries)
    owner_B, hashes_B = _flat(others)
    found: dict[int, dict[int, int]] = {}
    for a, b, bits in near_pairs(hashes_A, hashes_B, most):
        matches = found.setdefault(owner_A[a], {})
        matches[owner_B[b]] = min(bits, matches.get(owner_B[b], bits))
    return found


def _flat(entries: Sequence[Entry]) -> tuple[list[int], list[str]]:
    """Every image of every entry: whose it is, and its hash."""
    owners = [index for index, entry in enumerate(entries) for _ in entry.phashes]
    return owners, [phash for entry in entries for phash in entry.phashes]


def near_pairs(hashes_A: Sequence[str], hashes_B: Sequence[str], most: int) -> Iterator[tuple[int, int, int]]:
    """Every pair of hashes (64 hex digits each) that differ in at most `most` bits: both indices, and the bits."""
    words_A, words_B = _words(hashes_A), _words(hashes_B)
    rows = max(1, BLOCK_PAIRS // max(1, len(words_B)))
    for begin in range(0, len(words_A), rows):
        block = words_A[begin : begin + rows]
        bits_AB = np.zeros((len(block), len(words_B)), dtype=np.int16)
        for word in range(WORDS):
            bits_AB += np.bitwise_count(block[:, None, word] ^ words_B[None, :, word])
        for a, b in np.argwhere(bits_AB <= most).tolist():
            yield begin + a, b, int(bits_AB[a, b])


def _words(hashes: Sequence[str]) -> npt.NDArray[np.uint64]:
    """(len, 4)"""
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=">u8").astype(np.uint64).reshape(-1, WORDS)


def _inside(entries: Sequence[Entry], most_bits: int) -> dict[str, Drop]:
    kept: dict[tuple[str, int], list[Entry]] = {}  # by question and number of images
    drops: dict[str, Drop] = {}
    for entry in entries:
        earlier = kept.setdefault((entry.question, len(entry.phashes)), [])
        for other in earlier:
            bits = max(map(distance, entry.phashes, other.phashes), default=None)
            if (bits or 0) <= most_bits and same_answer(entry.answer, other.answer):
                by = "question" if bits is None else "image and question"
                drops[entry.id] = _drop(entry, other, "inside", by, bits)
                break
        else:
            earlier.append(entry)
    return drops


def _drop(entry: Entry, other: Entry, scope: Literal["inside", "against"], by: str, bits: int | None) -> Drop:
    return Drop(
        id=entry.id, source=entry.source, scope=scope, same_as=other.id, in_source=other.source, by=by, bits=bits
    )
