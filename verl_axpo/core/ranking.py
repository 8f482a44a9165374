"""In which order a question's prefixes are resampled: triggered group -> candidates, the most uncertain first.

Low confidence at the tool call means that the policy could as well have called something else: there a new draw is most
likely to be a different tool call (paper, section 3: Pearson 0.843 between negated confidence and entropy).
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import replace

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.trigger import is_triggered, subgroup
from verl_axpo.core.types import Candidate, Rollout


def rank(group: Iterable[Rollout], config: AxpoConfig) -> tuple[Candidate, ...]:
    """Every rollout of a triggered subgroup as a candidate, lowest score first, ties by session; () if not triggered.

    Args:
        group: the N rollouts of one question.
        config: the algorithm's settings.

    Raises:
        ValueError: a candidate lacks the score that `config.uncertainty` asks for.
    """
    group = list(group)
    if not is_triggered(group, config):
        return ()
    candidates = (
        Candidate(uid=rollout.uid, session=rollout.session, score=_score(rollout, config))
        for rollout in subgroup(group, config)
    )
    return tuple(sorted(candidates, key=lambda candidate: (candidate.score, candidate.session)))


def guess(ended: Iterable[Rollout], config: AxpoConfig) -> Candidate | None:
    """The prefix that an unfinished group would have resampled first, if it ended as it stands; None without a trigger.

    By confidence where the ranking will be by entropy, which is measured later: the two agree mostly.

    Args:
        ended: those of the group's rollouts that have ended and been scored.
        config: the algorithm's settings.
    """
    early = replace(config, uncertainty="confidence") if config.uncertainty == "entropy" else config
    return next(iter(rank(ended, early)), None)


def _score(rollout: Rollout, config: AxpoConfig) -> float:
    if config.uncertainty == "random":
        return _uniform(f"{config.seed}/{rollout.uid}/{rollout.session}")
    measured = rollout.confidence if config.uncertainty == "confidence" else rollout.entropy
    if measured is None or not math.isfinite(measured):
        raise ValueError(
            f"question {rollout.uid}, session {rollout.session}: got {config.uncertainty}={measured}, expected a "
            f"finite number for every tool-using rollout; have the rollout engine return log-probabilities"
            f"{' and entropies' if config.uncertainty == 'entropy' else ''}, or set algorithm.axpo.uncertainty=random"
        )
    return measured if config.uncertainty == "confidence" else -measured


def _uniform(key: str) -> float:
    """A number in [0, 1) that depends on `key` alone, so not on the order in which groups finish."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=6).digest(), "big") / 2**48
