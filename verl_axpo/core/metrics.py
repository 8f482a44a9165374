"""What a step did, in numbers: groups of N + what was resampled -> `axpo/...`.

Only rollouts and continuations are looked at; the integration adds what needs tokens, seconds or the engine's cache.
Infra failures, and sessions that raised and left no
rollout, are counted and otherwise left out. An average over nothing is left out too: a zero would read as a
measurement.
"""

from collections.abc import Iterable, Mapping, Sequence

from verl_axpo.core.budget import max_prefixes
from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.ranking import rank
from verl_axpo.core.recovery import recovery
from verl_axpo.core.step import Resampled
from verl_axpo.core.types import Group, Rollout, Status, usable

PREFIX = "axpo/"


def step_metrics(
    groups: Sequence[Group], resampled: Sequence[Resampled], config: AxpoConfig, *, rollouts_per_question: int
) -> dict[str, float]:
    """The metrics of one step, all but `triggered`, `candidates`, `selected`, `infra_failures`, `failed_sessions` being
    shares or means.

    Rates of rollouts are over the usable ones; `tool_all_wrong_rate` is over the questions with a tool-using rollout,
    `_after` counting a subgroup as restored once any of its continuations is correct; `restore_rate` is over resampled
    questions, `recovery_rate` over resampled prefixes; `budget_used` is the share of the step's prefixes that was
    resampled; `outcome/...` are four shares that sum to 1.

    Args:
        groups: the B groups of the step, of N rollouts each; of fewer where a session failed (see `complete`).
        resampled: what `step.explore` returned for them, in any order.
        config: the algorithm's settings.
        rollouts_per_question: N.
    """
    limit = max_prefixes(len(groups), rollouts_per_question, config)
    candidates = [
        (one.uid, one.session) for group in complete(groups, rollouts_per_question) for one in rank(group, config)
    ]
    metrics = {
        **_before(groups, config),
        **_after(groups, resampled, config),
        **_resampling(groups, candidates, resampled, limit),
        "failed_sessions": float(len(groups) * rollouts_per_question - sum(len(group.rollouts) for group in groups)),
    }
    return {PREFIX + name: value for name, value in metrics.items() if value is not None}


def complete(groups: Sequence[Group], rollouts_per_question: int) -> tuple[Group, ...]:
    """The groups that are explored: one that lost a session to an error is neither ranked nor resampled."""
    return tuple(group for group in groups if len(group.rollouts) >= rollouts_per_question)


def _before(groups: Sequence[Group], config: AxpoConfig) -> dict[str, float | None]:
    """What GRPO would see: the N ordinary rollouts of every question."""
    rollouts = [one for group in groups for one in usable(group.rollouts)]
    correct = [[config.is_correct(one.reward) for one in usable(group.rollouts)] for group in groups]
    return {
        "tool_use_rate": _mean(one.uses_tool for one in rollouts),
        "tool_all_wrong_rate": _mean(_all_wrong(groups, config, uses_tool=True).values()),
        "no_tool_all_wrong_rate": _mean(_all_wrong(groups, config, uses_tool=False).values()),
        "pass@1": _mean(sum(group) / len(group) for group in correct if group),
        "pass@N": _mean(any(group) for group in correct if group),
        **_outcomes(rollouts, config),
    }


def _after(groups: Sequence[Group], resampled: Sequence[Resampled], config: AxpoConfig) -> dict[str, float | None]:
    """What resampling changed."""
    outcomes = [(one.candidate.uid, recovery(one.continuations, config) == 1) for one in resampled]
    restored = {uid for uid, recovered in outcomes if recovered}
    still_wrong = (wrong and uid not in restored for uid, wrong in _all_wrong(groups, config, uses_tool=True).items())
    everything = [
        *(one for group in groups for one in group.rollouts),
        *(k for r in resampled for k in r.continuations),
    ]
    return {
        "tool_all_wrong_rate_after": _mean(still_wrong),
        "restore_rate": _mean(uid in restored for uid in {uid for uid, _ in outcomes}),
        "recovery_rate": _mean(recovered for _, recovered in outcomes),
        "infra_failures": float(sum(one.status is Status.INFRA_FAILURE for one in everything)),
    }


def _resampling(
    groups: Sequence[Group], candidates: Sequence[tuple[str, int]], resampled: Sequence[Resampled], limit: int
) -> dict[str, float | None]:
    """How far the budget of `limit` prefixes went among the candidates, (uid, session) each."""
    selected = {(one.candidate.uid, one.candidate.session) for one in resampled}
    return {
        "triggered": float(len({uid for uid, _ in candidates})),
        "candidates": float(len(candidates)),
        "selected": float(len(selected)),
        "budget_used": len(selected) / limit if limit else None,
        **_confidences(groups, dict.fromkeys(candidates, False) | dict.fromkeys(selected, True)),
    }


def _all_wrong(groups: Sequence[Group], config: AxpoConfig, *, uses_tool: bool) -> dict[str, bool]:
    """uid -> whether its subgroup is entirely wrong, for the questions that have such a rollout."""
    subgroups = {group.uid: [one for one in usable(group.rollouts) if one.uses_tool == uses_tool] for group in groups}
    return {uid: not any(config.is_correct(one.reward) for one in some) for uid, some in subgroups.items() if some}


def _outcomes(rollouts: Sequence[Rollout], config: AxpoConfig) -> dict[str, float | None]:
    kinds = [(one.uses_tool, config.is_correct(one.reward)) for one in rollouts]
    return {
        f"outcome/{'tool' if uses_tool else 'no_tool'}_{'correct' if correct else 'wrong'}": _mean(
            kind == (uses_tool, correct) for kind in kinds
        )
        for uses_tool in (True, False)
        for correct in (True, False)
    }


def _confidences(groups: Sequence[Group], selected: Mapping[tuple[str, int], bool]) -> dict[str, float | None]:
    """Mean confidence of the candidates that were resampled and of those that were not."""
    measured = [
        (selected[group.uid, one.session], one.confidence)
        for group in groups
        for one in group.rollouts
        if (group.uid, one.session) in selected and one.confidence is not None
    ]
    return {
        "confidence/selected": _mean(confidence for chosen, confidence in measured if chosen),
        "confidence/unselected": _mean(confidence for chosen, confidence in measured if not chosen),
    }


def _mean(values: Iterable[float]) -> float | None:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else None
