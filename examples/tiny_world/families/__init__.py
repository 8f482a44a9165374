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

Pair = tuple[int, int]
Pairs = tuple[Pair, ...]

NAMES = ("perception", "reasoning", "search")
HINT_RATE = 0.5  # share of the hints that are right


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One question.

    `question` holds one `<image>` per entry of `images`, and ends with the hint. The `numbers` are those that the right
    call carries; `facts` is what the generator knows and the policy does not (JSON-able). Example:
    `Problem(question="Multiply 22, 37. ... Hint: 1.", images=(), answer="2", hint="1", numbers=(22, 37), facts={})`
    """

    question: str
    images: tuple[Image.Image, ...]
    answer: str
    hint: str
    numbers: Pair
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
    DECIDES: str  # "I zoom in at": the teacher's last words before a call, the numbers may follow
    OBSERVES: str  # "I see": its first after the response
    LOOK_ALIKE: Mapping[int, int]  # of each number: the one that a careless reader takes for it

    def make_problem(self, rng: random.Random, held_out: bool = False) -> Problem:
        """A question; where a family has few of them, `held_out` ones never occur in training."""
        ...

    def think(self, problem: Problem) -> str:
        """What the teacher notices first: the numbers, and that it cannot tell the answer from them."""
        ...

    def call(self, problem: Problem, numbers: Pair) -> Call:
        """The call with these numbers; with the problem's own it shows the answer, with a look-alike another."""
        ...


def families(names: Sequence[str] = NAMES) -> tuple[Family, ...]:
    """The families of these names, imported on demand.

    Raises:
        ValueError: an unknown name, or none at all.
    """
    if not names or set(names) - set(NAMES):
        raise ValueError(f"families: got {list(names)}; choose one or more of {list(NAMES)}")
    return tuple(import_module(f"{__name__}.{name}") for name in names)


def look_alikes(numbers: Sequence[int], size: int) -> dict[int, int]:
    """Each number with its look-alike: the next of `size` neighbours, after the last of them the first."""
    groups = [numbers[start : start + size] for start in range(0, len(numbers), size)]
    return {number: group[(at + 1) % len(group)] for group in groups for at, number in enumerate(group)}


def split_pairs(first: Sequence[int], second: Sequence[int], size: int) -> tuple[Pairs, Pairs]:
    """All pairs of two sets of numbers, in two parts: (for training, held out).

    Numbers come in groups of `size` look-alikes. Every fourth diagonal of the table of groups is held out: a pair and
    its look-alikes are in one part, and each number is in both.
    """
    cells = list(product(range(len(first)), range(len(second))))
    parts: tuple[list[Pair], list[Pair]] = ([], [])
    for row, column in cells:
        parts[(row // size + column // size) % 4 == 0].append((first[row], second[column]))
    return tuple(parts[0]), tuple(parts[1])


def a_hint(answer: str, answers: Sequence[str], rng: random.Random) -> str:
    """The answer for HINT_RATE of the questions, else another."""
    return answer if rng.random() < HINT_RATE else rng.choice([other for other in answers if other != answer])


def tools_of(some: Sequence[Family]) -> tuple[str, ...]:
    """The tools that every question of such a world offers: one per family, whichever the question needs."""
    return tuple(family.TOOL for family in some)
