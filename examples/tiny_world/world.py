"""Seeds and splits: which problems exist.

    (seed, split, index) -> its own random stream -> Problem (-> Demonstration)

A problem depends on the seed, its split's name and its index alone, so that growing a split changes no other. Nothing
that is trained on is asked in another split (see `Family.make_problem`).
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from examples.tiny_world.families import NAMES, Family, Problem, families, tools_of
from examples.tiny_world.teacher import MISREAD_RATE, Demonstration, demonstrate

RL_SPLITS = ("train", "val", "heldout")
SFT_SPLITS = ("sft_train", "sft_val")
TRAINED_SPLITS = ("train", "sft_train")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One problem in its place in the world, with the random stream that a demonstration draws from."""

    split: str
    index: int
    family: Family
    tools: tuple[str, ...]
    problem: Problem
    rng: random.Random
    misread: float = MISREAD_RATE

    def demonstration(self) -> Demonstration:
        """How the teacher solves it; call once per example, the stream moves on."""
        return demonstrate(self.family, self.problem, self.rng, self.misread)


def examples(
    split: str, count: int, seed: int, names: Sequence[str] = NAMES, misread: float = MISREAD_RATE
) -> Iterator[Example]:
    """The first `count` examples of a split, the named families taking turns.

    Args:
        misread: the teacher's rate; all else, the order of its random draws included, stays as it is.

    Raises:
        ValueError: an unknown split or family, or a negative count.
    """
    if split not in RL_SPLITS + SFT_SPLITS:
        raise ValueError(f"split: got {split!r}; choose from {list(RL_SPLITS + SFT_SPLITS)}")
    if count < 0:
        raise ValueError(f"count of {split}: got {count}; it cannot be negative")
    some = families(names)
    for index in range(count):
        family = some[index % len(some)]
        rng = random.Random(f"{seed}/{split}/{index}")
        problem = family.make_problem(rng, held_out=split not in TRAINED_SPLITS)
        yield Example(
            split=split, index=index, family=family, tools=tools_of(some), problem=problem, rng=rng, misread=misread
        )
