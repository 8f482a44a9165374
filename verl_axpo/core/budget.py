"""How many prefixes a step may resample, and which: ranked candidates of all questions -> the selected ones.

Breadth-first: the first-ranked prefix of every question comes before the second-ranked of any.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import chain, zip_longest

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Candidate


def max_prefixes(num_questions: int, rollouts_per_question: int, config: AxpoConfig) -> int:
    """`floor(r * B * N / K)`, in whole prefixes of K continuations.

    Computed exactly on the decimal that the user wrote: in floating point 0.29 * 100 is below 29.
    """
    extra = Fraction(str(config.budget)) * num_questions * rollouts_per_question
    return int(extra // config.num_continuations)


def allocate(ranked: Mapping[str, Sequence[Candidate]], limit: int) -> dict[str, tuple[Candidate, ...]]:
    """The first `limit` candidates, level by level; every question of `ranked` is a key of the result.

    Inside a level the lowest score goes first; ties go to the question that comes first in `ranked`,
    which the host keeps in batch order, so that the result does not depend on who reported first.
    """
    order = {uid: position for position, uid in enumerate(ranked)}
    levels = zip_longest(*ranked.values())
    in_order = chain.from_iterable(
        sorted((one for one in level if one is not None), key=lambda one: (one.score, order[one.uid], one.session))
        for level in levels
    )
    selected = list(in_order)[: max(limit, 0)]
    return {uid: tuple(one for one in selected if one.uid == uid) for uid in ranked}
