"""Search: what does stall 71 in street 14 sell?

    street, stall -> question -> guess                        -> right one time in three, with the hint one in two
                              -> `tavily-search` in a corpus  -> right if street and stall were asked for right
    corpus: one document per stall, found by the local index of `verl_axpo.tools.search`

What is sold has to be looked up. The teacher names the place and often asks for another. Streets and stalls come in
groups of three look-alikes; a stall sells something else than those that are taken for it.
"""

import hashlib
import random
from collections.abc import Iterator

from examples.tiny_world.families import Call, Pair, Problem, a_hint, look_alikes, split_pairs

NAME = "search"
TOOL = "tavily-search"
ANSWERS = GOODS = ("bread", "cloth", "tools")
DECIDES, OBSERVES = "I search", "They sell"

STREETS = tuple(range(10, 25))
STALLS = tuple(range(60, 75))  # no number is both: a query has one best document
MAX_TOKENS = 256  # of the tool's answer, by its own estimate
LOOK_ALIKE = {**look_alikes(STREETS, len(GOODS)), **look_alikes(STALLS, len(GOODS))}
TRAINED, HELD_OUT = split_pairs(STREETS, STALLS, len(GOODS))


def sold_at(street: int, stall: int) -> str:
    """What a stall sells, the same in every world: three look-alikes sell three goods, from any of them on."""
    row, column = STREETS.index(street), STALLS.index(stall)
    block = f"{row // len(GOODS)}/{column // len(GOODS)}"
    first = int.from_bytes(hashlib.blake2b(block.encode(), digest_size=4).digest(), "big")
    return GOODS[(first + row + column) % len(GOODS)]


def document(street: int, stall: int) -> dict[str, str]:
    """What the corpus says about a place."""
    text = f"In street {street}, stall {stall}, they sell {sold_at(street, stall)}."
    return {"title": "Market", "url": f"tiny://market/{street}/{stall}/", "content": text}


def corpus() -> Iterator[dict[str, str]]:
    """Every document of the world."""
    return (document(*place) for place in (*TRAINED, *HELD_OUT))


def make_problem(rng: random.Random, held_out: bool = False) -> Problem:
    """A question about one stall."""
    street, stall = rng.choice(HELD_OUT if held_out else TRAINED)
    answer = sold_at(street, stall)
    hint, goods = a_hint(answer, ANSWERS, rng), f"{', '.join(GOODS[:-1])} or {GOODS[-1]}"
    return Problem(
        question=f"What is sold in street {street}, stall {stall}, {goods}? Hint: {hint}.",
        images=(),
        answer=answer,
        hint=hint,
        numbers=(street, stall),
        facts={"street": street, "stall": stall},
    )


def think(problem: Problem) -> str:
    """The place, named."""
    return f"It is in street {problem.numbers[0]}, stall {problem.numbers[1]}. I do not know."


def call(problem: Problem, numbers: Pair) -> Call:
    """A search for this place."""
    from verl_axpo.tools.search.hits import Hit, render

    arguments = {"query": f"street {numbers[0]}, stall {numbers[1]}.", "max_results": 1}
    response = render([Hit(**document(*numbers), score=1.0)], max_tokens=MAX_TOKENS)
    return Call(arguments=arguments, response=response, shown=sold_at(*numbers))
