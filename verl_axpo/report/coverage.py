"""Proposition 1 on a run's trace: do k continuations of a prefix reach a right tool call sooner than k fresh rollouts?

    trace -> selected prefixes, their K continuations   -> share with a right one among k, tokens      resampling
          -> every question's N rollouts                -> share with a right one that calls a tool    fresh rollouts
    trace of `prefix: scratch` -> K rollouts anew for each selected prefix                             fresh, sampled

Both shares are unbiased over the draws of k (`stats.pass_at`). Those of fresh rollouts are over all questions of the
step. A triggered question has no right tool call among its own N rollouts, so its own would be zero by selection; as
triggered questions are harder than others, the comparison is kind to fresh rollouts. A run with `prefix: scratch`
samples fresh rollouts of those very questions; with the same seed and a learning rate of 1e-30, the two runs trigger
alike.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path

import numpy as np

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Status
from verl_axpo.report.stats import Estimate, estimate, pass_at
from verl_axpo.report.table import Rows, Table
from verl_axpo.trace import TracedStep, TrajectoryRecord, iter_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """One prefix with its continuations, or one question with its fresh rollouts.

    Attributes:
        right: those that answer correctly and call a tool.
        total: K or N, without infra failures.
        tokens: that all of them generated.
    """

    right: int
    total: int
    tokens: int


def prefixes(step: TracedStep) -> list[Tries]:
    """The selected prefixes of a step."""
    return [
        _tries(question.continuations(source), _config(step))
        for question in step.questions()
        for source in dict.fromkeys(record.source_session for record in question.records)
        if source is not None
    ]


def fresh(step: TracedStep) -> list[Tries]:
    """The questions of a step."""
    groups = (question.rollouts for question in step.questions())
    return [_tries(group, _config(step)) for group in groups if group]


def _config(step: TracedStep) -> AxpoConfig:
    if step.summary is None:
        raise ValueError(f"coverage: step {step.step} has no summary; its run was killed, leave the step out")
    return step.summary.config


def _tries(group: Sequence[TrajectoryRecord], config: AxpoConfig) -> Tries:
    usable = [record for record in group if record.status is not Status.INFRA_FAILURE]
    right = sum(record.uses_tool and config.is_correct(record.reward) for record in usable)
    return Tries(right=right, total=len(usable), tokens=sum(generated(record, config) for record in usable))


def generated(record: TrajectoryRecord, config: AxpoConfig) -> int:
    """Tokens that this trajectory cost: those of its turns, for a continuation without the prefix it was given."""
    given = record.prefix_len or 0 if record.source_session is not None and config.prefix == "fixed" else 0
    return sum(record.turn_lengths or ()) - given


def covered(tries: Iterable[Tries], k: int) -> Estimate:
    """The share in which k draws hold a right one, with its interval over prefixes or questions."""
    return estimate([np.array([pass_at(k, each.total, each.right) for each in tries])])


def tokens_per_recovery(tries: Sequence[Tries], k: int) -> float:
    """Generated tokens for k draws, over the chance that they hold a right one; NaN where there is none."""
    usable = [each for each in tries if each.total >= k]
    chance = sum(pass_at(k, each.total, each.right) for each in usable)
    return sum(k * each.tokens / each.total for each in usable) / chance if chance else nan


def coverage(trace: Path, scratch: Path | None = None) -> Table:
    """A row per k from 1 to the number of continuations.

    Args:
        trace: of a run of AXPO.
        scratch: of a run with `prefix: scratch`, for the columns of fresh rollouts that were sampled.

    Raises:
        ValueError: no prefix was resampled in a run, or `scratch` is a run of another kind.
    """
    resampled, drawn = _read(trace, "fixed")
    again = _read(scratch, "scratch")[0] if scratch else []
    rows: Rows = [
        {
            "k": k,
            "resampling %": covered(resampled, k),
            "fresh rollouts %": covered(drawn, k),
            "tokens per recovery, resampling": tokens_per_recovery(resampled, k),
            "tokens per recovery, fresh": tokens_per_recovery(drawn, k),
            **_sampled(again, k),
        }
        for k in range(1, max(each.total for each in resampled) + 1)
    ]
    title = f"A right tool call among k: {len(resampled)} prefixes, {len(drawn)} groups of fresh rollouts"
    return Table(name="coverage", rows=rows, title=title)


def _read(trace: Path, prefix: str) -> tuple[list[Tries], list[Tries]]:
    """Of all steps of a run: the prefixes, the questions."""
    steps = [step for step in iter_steps(trace, tokens=False) if step.summary is not None]
    resampled, drawn = ([tries for step in steps for tries in of(step)] for of in (prefixes, fresh))
    if not resampled:
        raise ValueError(f"coverage: no prefix was resampled in {trace}; give a run of AXPO")
    if {_config(step).prefix for step in steps} != {prefix}:
        raise ValueError(f"coverage: {trace} was not run with algorithm.axpo.prefix={prefix}")
    return resampled, drawn


def _sampled(again: Sequence[Tries], k: int) -> dict[str, Estimate | float]:
    if not again:
        return {}
    return {"fresh, sampled %": covered(again, k), "tokens per recovery, sampled": tokens_per_recovery(again, k)}
