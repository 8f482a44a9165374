"""The kinds of question of the tiny world, one module each.

    rng -> family.make_problem(rng) -> Problem -> family.demonstrate(problem, rng) -> Demonstration

A further family is one module with the names of `Family` and one entry in `FAMILIES`.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
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
class Demonstration:
    """What follows the question in an SFT row: assistant and tool turns, and the images that tools returned."""

    turns: tuple[dict[str, str], ...]
    images: tuple[Image.Image, ...]


class Family(Protocol):
    """What a family module offers (a module is a value like another; its functions are the methods)."""

    NAME: str
    TOOLS: tuple[str, ...]

    def make_problem(self, rng: random.Random) -> Problem: ...

    def demonstrate(self, problem: Problem, rng: random.Random) -> Demonstration: ...


def families() -> dict[str, Family]:
    """Every family by name, imported on demand."""
    from verl_axpo.data.tiny.families import perception

    return {perception.NAME: perception}
