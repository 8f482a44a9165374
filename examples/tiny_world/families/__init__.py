"""The kinds of question of the tiny world, one module each.

    rng -> family.make_problem(rng) -> Problem -> teacher.demonstrate(family, problem, rng) -> Demonstration

A further family is one module with the names of `Family` and one entry in `NAMES`.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import product
from typing import Any, Protocol

from PIL import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One question.

    `question` holds one `<image>` per entry of `images`; `facts` is what the generator knows and the policy does not
    (JSON-able). Example: `Problem(question="<image>Which ...?", images=(picture,), answer="rows", facts={"cell": 5})`
    """

    question: str
    images: tuple[Image.Image, ...]
    answer: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A tool call of the teacher's and what the tool answers: `response` as text, `<image>` for each of `images`.

    `shown` is the answer that the response suggests. Example: `Call(arguments={"code": "print(2)"}, response="2",
    shown="2")`
    """

    arguments: Mapping[str, Any]
    response: str
    shown: str
    images: tuple[Image.Image, ...] = ()


class Family(Protocol):
    """What a family module offers (a module is a value like another; its functions are the methods)."""

    NAME: str
    TOOL: str
    ANSWERS: tuple[str, ...]
    DECIDES: str  # "I zoom in.": the teacher's last words before a call
    OBSERVES: str  # "I see": its first after the response

    def make_problem(self, rng: random.Random, held_out: bool = False) -> Problem:
        """A question; where a family has few of them, `held_out` ones never occur in training."""
        ...

    def think(self, problem: Problem) -> str:
        """What the teacher notices first, and that it cannot tell the answer from it."""
        ...

    def call(self, problem: Problem, right: bool, rng: random.Random) -> Call:
        """A call that shows the answer or, not `right`, one that misleads."""
        ...


Pairs = tuple[tuple[int, int], ...]

NAMES = ("perception", "reasoning", "search")


def families(names: Sequence[str] = NAMES) -> tuple[Family, ...]:
    """The families of these names, imported on demand.

    Raises:
        ValueError: an unknown name, or none at all.
    """
    if not names or set(names) - set(NAMES):
        raise ValueError(f"families: got {list(names)}; choose one or more of {list(NAMES)}")
    return tuple(import_module(f"{__name__}.{name}") for name in names)


def split_pairs(first: Sequence[int], second: Sequence[int]) -> tuple[Pairs, Pairs]:
    """All pairs of two sets of numbers, in two parts: (for training, held out).

    Every fourth diagonal is held out: each number occurs on both sides of both parts, a pair in one of them only.
    """
    cells = list(product(range(len(first)), range(len(second))))
    trained = tuple((first[row], second[column]) for row, column in cells if (row + column) % 4)
    held_out = tuple((first[row], second[column]) for row, column in cells if (row + column) % 4 == 0)
    return trained, held_out


def near_misses(pair: tuple[int, int], pairs: Pairs) -> list[tuple[int, int]]:
    """Those of `pairs` that share one number with `pair`, in its place: what a careless reader takes instead."""
    return [other for other in pairs if (other[0] == pair[0]) != (other[1] == pair[1])]


def tools_of(some: Sequence[Family]) -> tuple[str, ...]:
    """The tools that every question of such a world offers: one per family, whichever the question needs."""
    return tuple(family.TOOL for family in some)
