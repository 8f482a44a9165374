"""AXPO's step for one question, as the paper tells it: group of N -> trigger -> rank -> allocate -> resample.

The host injects the two things that need it: `allocate`, which shares one budget among all questions of the step, and
`resample`, which draws, runs and scores K continuations. What comes back becomes rows of the batch (`types.Row`), whose
advantages `advantage.row_advantages` computes.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.ranking import rank
from verl_axpo.core.types import Candidate, Group, Rollout, usable

logger = logging.getLogger(__name__)

Allocate = Callable[[str, tuple[Candidate, ...]], Awaitable[tuple[Candidate, ...]]]
Resample = Callable[[Candidate], Awaitable[Sequence[Rollout] | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampled:
    """A prefix and its scored continuations, of which at least one is usable.

    Example: `Resampled(candidate=Candidate(uid="q7", session=3, score=0.62), continuations=(Rollout(...), ...))`
    """

    candidate: Candidate
    continuations: tuple[Rollout, ...]


async def explore(group: Group, config: AxpoConfig, *, allocate: Allocate, resample: Resample) -> tuple[Resampled, ...]:
    """Resample the most uncertain prefixes of a group whose tool-using subgroup failed.

    Args:
        group: the N scored rollouts of one question.
        config: the algorithm's settings.
        allocate: (uid, ranked candidates) -> those that the step's budget allows. Awaited for every group, with `()`
            for one that is not triggered, so that it can be a barrier over all groups of the step.
        resample: candidate -> its K scored continuations; None, or an exception, when that failed.

    Returns:
        The prefixes that were resampled. A failed one is left out: its group stays as GRPO would have it.

    Raises:
        ValueError: see `ranking.rank`; `allocate` has then not been called.
    """
    # 1. trigger and rank: () unless the tool-using subgroup is non-empty and entirely wrong
    candidates = rank(group, config)
    # 2. allocate: what the budget of the whole step leaves to this question
    selected = await allocate(group.uid, candidates)
    # 3. resample: K continuations of each selected prefix, all at once
    outcomes = await asyncio.gather(*(_attempt(resample, candidate) for candidate in selected))
    return tuple(
        Resampled(candidate=candidate, continuations=continuations)
        for candidate, continuations in zip(selected, outcomes, strict=True)
        if usable(continuations)
    )


async def _attempt(resample: Resample, candidate: Candidate) -> tuple[Rollout, ...]:
    """The continuations, or () if anything went wrong: a failed resample must not cost the group (or the step)."""
    try:
        return tuple(await resample(candidate) or ())
    except Exception:
        logger.warning("question %s, session %d: resample failed", candidate.uid, candidate.session, exc_info=True)
        return ()
