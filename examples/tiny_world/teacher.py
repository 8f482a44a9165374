"""The teacher of the tiny world: problem -> a guess, or a tool call that is often wrong, and the answer it suggests.

That is what leaves the SFT model with the paper's gap: good thinking followed by tool calls that mostly fail. Unlike
the paper's teacher this one's wrong answers are kept; its guesses are blind, so that SFT teaches nothing but the form.
"""

import random
from dataclasses import dataclass

from PIL import Image

from examples.tiny_world.families import Family, Problem
from verl_axpo import prompts

TOOL_RATE = 0.30  # share of demonstrations that call the tool (the paper has about 0.25)
AIM_RATE = 0.36  # share of the calls that are right


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """What follows the question in an SFT row: assistant and tool turns, and the images that tools returned."""

    turns: tuple[dict[str, str], ...]
    images: tuple[Image.Image, ...]


def demonstrate(family: Family, problem: Problem, rng: random.Random) -> Demonstration:
    """Name what the question asks for, then guess or call the family's tool, and believe what comes back."""
    noticed = family.think(problem)
    if rng.random() >= TOOL_RATE:
        guess = prompts.answer(rng.choice(family.ANSWERS))
        return Demonstration(turns=(prompts.assistant_turn(f"{noticed} I guess.", guess),), images=())
    call = family.call(problem, rng.random() < AIM_RATE, rng)
    turns = (
        prompts.assistant_turn(f"{noticed} {family.DECIDES}", prompts.tool_call(family.TOOL, call.arguments)),
        {"role": "tool", "content": call.response},
        prompts.assistant_turn(f"{family.OBSERVES} {call.shown}.", prompts.answer(call.shown)),
    )
    return Demonstration(turns=turns, images=call.images)
