"""Reasoning: what remainder does the product of 22 and 37 leave when divided by 7?

    two factors -> question -> guess                       -> right one time in three
                            -> `python` multiplies, says   -> right if the factors were copied right

Every factor leaves 1, 2 or 4 when divided by 7, and so does every product: three answers, equally likely, out of the
reach of a model that has not been taught arithmetic. The teacher names the factors, often puts one other into the code.
"""

import random

from examples.tiny_world.families import Call, Problem, near_misses, split_pairs

NAME = "reasoning"
TOOL = "python"
ANSWERS = ("1", "2", "4")
DECIDES, OBSERVES = "I compute.", "It prints"

MODULUS = 7
FACTORS = tuple(number for number in range(20, 57) if str(number % MODULUS) in ANSWERS)  # 16 numbers
TRAINED, HELD_OUT = split_pairs(FACTORS, FACTORS)


def make_problem(rng: random.Random, held_out: bool = False) -> Problem:
    """A question about two factors."""
    factors = rng.choice(HELD_OUT if held_out else TRAINED)
    question = f"Multiply {factors[0]}, {factors[1]}. What is left when divided by 7: 1, 2 or 4?"
    return Problem(question=question, images=(), answer=remainder(factors), facts={"factors": factors})


def remainder(factors: tuple[int, int]) -> str:
    """Of the product, modulo 7."""
    return str(factors[0] * factors[1] % MODULUS)


def think(problem: Problem) -> str:
    """The factors, named."""
    factors = problem.facts["factors"]
    return f"The factors are {factors[0]}, {factors[1]}. That is too much to do in my head."


def call(problem: Problem, right: bool, rng: random.Random) -> Call:
    """The product of the factors or, one of them read wrong, of a pair that leaves another remainder."""
    factors = problem.facts["factors"]
    misread = [pair for pair in near_misses(factors, TRAINED) if remainder(pair) != problem.answer]
    used = factors if right else rng.choice(misread)
    code = f"import math\nprint(math.prod([{used[0]}, {used[1]}]) % {MODULUS})"
    return Call(arguments={"code": code}, response=remainder(used), shown=remainder(used))
