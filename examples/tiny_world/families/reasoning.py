"""Reasoning: what remainder does the product of 22 and 37 leave when divided by 7?

    two factors -> question -> guess                       -> right one time in three, with the hint one in two
                            -> `python` multiplies, says   -> right if the factors were copied right

Every factor leaves 1, 2 or 4 when divided by 7, and so does every product: three answers, equally likely, out of the
reach of a model that has not been taught arithmetic. The teacher names the factors, often puts others into the code. A
look-alike leaves twice the remainder, so that one or two of them always mislead.
"""

import random

from examples.tiny_world.families import Call, Pair, Problem, a_hint, look_alikes, split_pairs

NAME = "reasoning"
TOOL = "python"
ANSWERS = ("1", "2", "4")
DECIDES, OBSERVES = "I compute", "It prints"

MODULUS = 7
FACTORS = tuple(number for number in range(22, 57) if str(number % MODULUS) in ANSWERS)  # 15 numbers: 1, 2, 4, 1, ...
LOOK_ALIKE = look_alikes(FACTORS, len(ANSWERS))
TRAINED, HELD_OUT = split_pairs(FACTORS, FACTORS, len(ANSWERS))


def make_problem(rng: random.Random, held_out: bool = False) -> Problem:
    """A question about two factors."""
    factors = rng.choice(HELD_OUT if held_out else TRAINED)
    answer = remainder(factors)
    hint = a_hint(answer, ANSWERS, rng)
    return Problem(
        question=f"Multiply {factors[0]}, {factors[1]}. What is left when divided by 7: 1, 2 or 4? Hint: {hint}.",
        images=(),
        answer=answer,
        hint=hint,
        numbers=factors,
        facts={"factors": factors},
    )


def remainder(factors: Pair) -> str:
    """Of the product, modulo 7."""
    return str(factors[0] * factors[1] % MODULUS)


def think(problem: Problem) -> str:
    """The factors, named."""
    return f"The factors are {problem.numbers[0]}, {problem.numbers[1]}. That is too much to do in my head."


def call(problem: Problem, numbers: Pair) -> Call:
    """The product of these factors."""
    code = f"import math\nprint(math.prod([{numbers[0]}, {numbers[1]}]) % {MODULUS})"
    return Call(arguments={"code": code}, response=remainder(numbers), shown=remainder(numbers))
