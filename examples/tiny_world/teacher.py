"""The teacher of the tiny world: problem -> a guess, or a tool call that is often wrong, and the answer it suggests.

That is what leaves the SFT model with the paper's gap: good thinking followed by tool calls that mostly fail. Unlike
the paper's teacher this one's wrong answers are kept. It mostly guesses what the hint says, which is right for every
second question: direct answers start out better than calls, and cannot become right for all. It reads the numbers
rightly and often calls with look-alikes; where it plans, the call's numbers, right or wrong, stand in its thinking.
"""

import random
from dataclasses import dataclass

from PIL import Image

from examples.tiny_world.families import Family, Problem
from verl_axpo import prompts

TOOL_RATE = 0.27  # share of demonstrations that call the tool (the paper has about 0.25)
MISREAD_RATE = 0.39  # share of a call's numbers in whose place its look-alike stands
PLAN_RATE = 0.64  # share of the calls whose numbers the thinking says first
TRUST_RATE = 0.77  # share of the guesses that are the hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """What follows the question in an SFT row: assistant and tool turns, and the images that tools returned."""

    turns: tuple[dict[str, str], ...]
    images: tuple[Image.Image, ...]


def demonstrate(family: Family, problem: Problem, rng: random.Random, misread: float = MISREAD_RATE) -> Demonstration:
    """Name what the question asks for, then guess or call the family's tool, and believe what comes back."""
    noticed = family.think(problem)
    if rng.random() >= TOOL_RATE:
        turn = prompts.assistant_turn(f"{noticed} I guess.", prompts.answer(_guess(family, problem, rng)))
        return Demonstration(turns=(turn,), images=())
    first, second = (family.LOOK_ALIKE[n] if rng.random() < misread else n for n in problem.numbers)
    planned = f" {first}, {second}" if rng.random() < PLAN_RATE else ""
    call = family.call(problem, (first, second))
    turns = (
        prompts.assistant_turn(f"{noticed} {family.DECIDES}{planned}.", prompts.tool_call(family.TOOL, call.arguments)),
        {"role": "tool", "content": call.response},
        prompts.assistant_turn(f"{family.OBSERVES} {call.shown}.", prompts.answer(call.shown)),
    )
    return Demonstration(turns=turns, images=call.images)


def _guess(family: Family, problem: Problem, rng: random.Random) -> str:
    trusted = rng.random() < TRUST_RATE
    return problem.hint if trusted else rng.choice([other for other in family.ANSWERS if other != problem.hint])
