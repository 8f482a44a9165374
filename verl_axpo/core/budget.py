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


def ranked_order(ranked: Mapping[str, Sequence[Candidate]]) -> tuple[Candidate, ...]:
    """The candidates of all questions in the order in which the budget reaches them.

    All first-ranked candidates come first, then all second-ranked ones, and so on. Inside a level the lowest score goes
    first; ties go to the question that comes first in `ranked`, which the host keeps in batch order, so that the result
    does not depend on who reported first.
    """
    levels = zip_longest(*ranked.values())
    return tuple(
        chain.from_iterable(
            sorted((candidate for candidate in level if candidate is not None), key=lambda candidate: candidate.score)
            for level in levels
        )
    )


def allocate(ranked: Mapping[str, Sequence[Candidate]], limit: int) -> dict[str, tuple[Candidate, ...]]:
    """The first `limit` candidates in ranked order; every question of `ranked` is a key of the result."""
    selected = ranked_order(ranked)[: max(limit, 0)]
    return {uid: tuple(candidate for candidate in selected if candidate.uid == uid) for uid in ranked}
