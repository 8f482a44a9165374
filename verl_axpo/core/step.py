"""AXPO's step for one question, as the paper tells it: group of N -> trigger -> rank -> allocate -> resample.

The host passes in the two parts that need it: `allocate`, which shares one budget among all questions of the step, and
`resample`, which draws, runs and scores K continuations. Rollouts and continuations become the rows of the batch, whose
advantages `advantage.row_advantages` computes.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.ranking import rank
from verl_axpo.core.types import Candidate, Rollout, usable

logger = logging.getLogger(__name__)

Allocate = Callable[[tuple[Candidate, ...]], Awaitable[tuple[Candidate, ...]]]
More = Callable[[], Awaitable[tuple[Candidate, ...]]]
Resample = Callable[[Candidate], Awaitable[Sequence[Rollout] | None]]


async def nothing_more() -> tuple[Candidate, ...]:
    """`explore` without further shares."""
    return ()


async def explore(
    group: Sequence[Rollout],
    config: AxpoConfig,
    *,
    allocate: Allocate,
    resample: Resample,
    more: More = nothing_more,
) -> tuple[Rollout, ...]:
    """Resample the most uncertain prefixes of a group whose tool-using subgroup failed.

    Args:
        group: the N scored rollouts of one question.
        config: the algorithm's settings.
        allocate: ranked candidates -> those that the step's budget allows. Awaited for every group, with `()` for a
            group that is not triggered, so that it can be a barrier over all groups of the step.
        resample: candidate -> its K scored continuations; None, or an exception, when that failed.
        more: the group's next share, awaited while its prefixes are resampled, until a share is empty: streaming
            allocation pays for second prefixes later than for the first.

    Returns:
        The continuations of all prefixes that were resampled, at least one of each prefix usable. A prefix whose
        resampling failed has none here: its group stays as GRPO would have it.

    Raises:
        ValueError: see `ranking.rank`; `allocate` has then not been called.
    """
    # 1. trigger and rank: () unless the tool-using subgroup is non-empty and entirely wrong
    candidates = rank(group, config)
    # 2. allocate: what the budget of the whole step leaves to this question
    selected = await allocate(candidates)
    # 3. resample: K continuations of each selected prefix, all at once
    attempts: list[asyncio.Future[tuple[Rollout, ...]]] = []
    try:
        while selected:
            attempts += [asyncio.ensure_future(_attempt(resample, candidate)) for candidate in selected]
            selected = await more()
    finally:  # no continuation goes on after its group
        outcomes = await asyncio.gather(*attempts)
    return tuple(rollout for continuations in outcomes if usable(continuations) for rollout in continuations)


async def _attempt(resample: Resample, candidate: Candidate) -> tuple[Rollout, ...]:
    """The continuations, or () if anything went wrong: a failed resample must not cost the group (or the step)."""
    try:
        return tuple(await resample(candidate) or ())
    except Exception:
        logger.warning("question %s, session %d: resample failed", candidate.uid, candidate.session, exc_info=True)
        return ()


def recovery(continuations: Iterable[Rollout], config: AxpoConfig) -> int | None:
    """R of a prefix (equation 3): 1 if a usable continuation is correct, else 0; None if none is usable.

    None means that nothing was learned: the group stays as GRPO would have it.
    """
    kept = usable(continuations)
    return int(any(config.is_correct(continuation.reward) for continuation in kept)) if kept else None
