"""Word problems with one right integer: (seed, split, index) -> its own random stream -> Problem -> demonstration.

    story, its numbers -> question -> the answer at once -> right if the expression is, and the model can calculate
                                   -> `python`           -> right if the expression is the story's

The teacher mostly calculates in its head, sometimes calls `python`, and then more often takes a wrong expression. It
believes what comes back. SFT on it leaves the gap that AXPO is for.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from verl_axpo import prompts

TOOL = "python"
SPLITS = ("train", "heldout", "sft_train")
EASY_RATE = 0.6  # share of the problems with one step
TOOL_RATE = 0.4  # share of demonstrations that call the tool
AIM_RATE = 0.4  # share of the calls with the right expression
HEAD_RATE = 0.6  # share of the answers without a call that have the right expression; the sum is always right

NAMES = ("Ana", "Ben", "Chen", "Dana", "Eli", "Fatima", "Goran", "Hana")
THINGS = ("pens", "apples", "tickets", "books", "stamps", "cups")


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """How numbers make a question: its text, the right expression, and one that a careless reader takes."""

    text: str
    right: str
    careless: str


ONE_STEP = (
    Story(
        text="{name} buys {a} boxes with {b} {things} each. How many {things} are that?",
        right="{a} * {b}",
        careless="{a} + {b}",
    ),
    Story(
        text="{name} has {sum} {things} and gives away {a}. How many {things} are left?",
        right="{sum} - {a}",
        careless="{sum} + {a}",
    ),
    Story(
        text="{name} has {a} red {things} and {b} blue ones. How many {things} are there in all?",
        right="{a} + {b}",
        careless="{a} * {b}",
    ),
)
TWO_STEPS = (
    Story(
        text="{name} buys {a} boxes with {b} {things} each and gives away {c}. How many {things} are left?",
        right="{a} * {b} - {c}",
        careless="{a} * {b} + {c}",
    ),
    Story(
        text="{name} has {c} {things} and gets {a} bags with {b} {things} each. How many {things} are there now?",
        right="{c} + {a} * {b}",
        careless="{c} + {a} + {b}",
    ),
    Story(
        text="{name} makes {b} {things} a day for {a} days, but {c} a day are lost. How many {things} remain?",
        right="{a} * ({b} - {c})",
        careless="{a} * {b} - {c}",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A question, its answer, and both expressions with their numbers."""

    question: str
    answer: str
    right: str
    careless: str


def value(expression: str) -> str:
    """Of an expression of this module, as `print` shows it."""
    # Our own text and nobody else's
    return str(eval(expression, {"__builtins__": {}}))


def problem(rng: random.Random, held_out: bool) -> Problem:
    """One problem. Its first two numbers are both even or both odd exactly where it is held out."""
    story = rng.choice(ONE_STEP if rng.random() < EASY_RATE else TWO_STEPS)
    a, c = rng.randint(3, 6), rng.randint(2, 5)
    b = rng.randint(c + 1, c + 5)
    if ((a + b) % 2 == 0) != held_out:
        b += 1
    numbers = {"a": a, "b": b, "c": c, "sum": a + b}
    right, careless = story.right.format(**numbers), story.careless.format(**numbers)
    text = story.text.format(**numbers, name=rng.choice(NAMES), things=rng.choice(THINGS))
    return Problem(question=text, answer=value(right), right=right, careless=careless)


def demonstrate(made: Problem, rng: random.Random) -> tuple[Mapping[str, str], ...]:
    """What follows the question in an SFT row."""
    if rng.random() >= TOOL_RATE:
        thought = made.right if rng.random() < HEAD_RATE else made.careless
        return (_turn(f"{thought} = {value(thought)}.", prompts.answer(value(thought))),)
    used = made.right if rng.random() < AIM_RATE else made.careless
    shown = value(used)
    return (
        _turn("I compute it.", prompts.tool_call(TOOL, {"code": f"print({used})"})),
        {"role": "tool", "content": shown},
        _turn(f"The result is {shown}.", prompts.answer(shown)),
    )


def problems(split: str, count: int, seed: int) -> Iterator[tuple[int, Problem, random.Random]]:
    """The first problems of a split, each with the random stream that a demonstration draws from.

    Raises:
        ValueError: an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"split: got {split!r}; choose from {list(SPLITS)}")
    for index in range(count):
        rng = random.Random(f"{seed}/{split}/{index}")
        yield index, problem(rng, held_out=split == "heldout"), rng


def _turn(said: str, action: str) -> Mapping[str, str]:
    return {"role": "assistant", "content": f"{said}\n{action}"}
