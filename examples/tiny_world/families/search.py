"""Search: what does stall 71 in street 14 sell?

    street, stall -> question -> guess                        -> right one time in three
                              -> `tavily-search` in a corpus  -> right if street and stall were asked for right
    corpus: one document per stall, found by the local index of `verl_axpo.tools.search`

Who sells what follows no rule, so it has to be looked up. The teacher names the place and often asks for its neighbour.
"""

import hashlib
import random
from collections.abc import Iterator

from examples.tiny_world.families import Call, Problem, near_misses, split_pairs

NAME = "search"
TOOL = "tavily-search"
ANSWERS = GOODS = ("bread", "cloth", "tools")
DECIDES, OBSERVES = "I search.", "They sell"

STREETS = tuple(range(10, 26))
STALLS = tuple(range(60, 76))  # no number is both: a query has one best document
MAX_TOKENS = 256  # of the tool's answer, by its own estimate
TRAINED, HELD_OUT = split_pairs(STREETS, STALLS)


def sold_at(street: int, stall: int) -> str:
    """What a stall sells: any of the goods, by no rule, the same in every world."""
    digest = hashlib.blake2b(f"{street}/{stall}".encode(), digest_size=4).digest()
    return GOODS[int.from_bytes(digest, "big") % len(GOODS)]


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
    question = f"What is sold in street {street}, stall {stall}, {', '.join(GOODS[:-1])} or {GOODS[-1]}?"
    facts = {"street": street, "stall": stall}
    return Problem(question=question, images=(), answer=sold_at(street, stall), facts=facts)


def think(problem: Problem) -> str:
    """The place, named."""
    return f"It is in street {problem.facts['street']}, stall {problem.facts['stall']}. I do not know."


def call(problem: Problem, right: bool, rng: random.Random) -> Call:
    """A search for the place or, street or stall read wrong, for one where they sell something else."""
    from verl_axpo.tools.search.hits import Hit, render

    asked = (problem.facts["street"], problem.facts["stall"])
    misread = [other for other in near_misses(asked, TRAINED) if sold_at(*other) != problem.answer]
    place = asked if right else rng.choice(misread)
    arguments = {"query": f"street {place[0]}, stall {place[1]}.", "max_results": 1}
    response = render([Hit(**document(*place), score=1.0)], max_tokens=MAX_TOKENS)
    return Call(arguments=arguments, response=response, shown=sold_at(*place))
