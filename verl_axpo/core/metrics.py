"""What a step did, in numbers: the rollouts and continuations of a step -> `axpo/...`.

The integration adds what needs tokens, seconds or the engine's cache. Infra failures, and sessions that raised and left
no rollout, are counted and otherwise left out. An average over nothing is left out too: a zero would read as a
measurement.
"""

from collections.abc import Iterable, Mapping, Sequence

from verl_axpo.core.budget import max_prefixes
from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.ranking import rank
from verl_axpo.core.step import recovery
from verl_axpo.core.types import Rollout, Status, continuations_of, groups_of, usable

PREFIX = "axpo/"
Groups = Mapping[str, Sequence[Rollout]]  # uid -> the rollouts of the question
Continuations = Mapping[tuple[str, int], Sequence[Rollout]]  # (uid, source) -> the continuations of the prefix


def step_metrics(
    rollouts: Sequence[Rollout], config: AxpoConfig, *, questions: Sequence[str], rollouts_per_question: int
) -> dict[str, float]:
    """The metrics of one step: shares and means, but for the counts `triggered`, `candidates`, `selected`,
    `infra_failures` and `failed_sessions`.

    Rates of rollouts are over the usable ones; `tool_all_wrong_rate` is over the questions with a tool-using rollout,
    `_after` counting a subgroup as restored once any of its continuations uses a tool and is correct; `restore_rate`
    is over resampled questions, `recovery_rate` over resampled prefixes; `budget_used` is the share of the step's
    prefixes that was resampled; `outcome/...` are four shares that sum to 1.

    Args:
        rollouts: of the step, with what `step.explore` returned, in any order.
        config: the algorithm's settings.
        questions: the B uids of the step; a group has fewer than N rollouts where a session failed (see `complete`).
        rollouts_per_question: N.
    """
    groups, continuations = groups_of(rollouts, questions), continuations_of(rollouts)
    metrics = {
        **_before(groups, config),
        **_after(groups, continuations, config),
        **_resampling(groups, continuations, config, rollouts_per_question),
        "infra_failures": float(sum(rollout.status is Status.INFRA_FAILURE for rollout in rollouts)),
        "failed_sessions": float(len(groups) * rollouts_per_question - sum(map(len, groups.values()))),
    }
    return {PREFIX + name: value for name, value in metrics.items() if value is not None}


def complete(groups: Groups, rollouts_per_question: int) -> dict[str, Sequence[Rollout]]:
    """The groups that are explored: a group that lost a session to an error is neither ranked nor resampled."""
    return {uid: group for uid, group in groups.items() if len(group) >= rollouts_per_question}


def _before(groups: Groups, config: AxpoConfig) -> dict[str, float | None]:
    """What GRPO would see: the N rollouts of every question."""
    rollouts = [rollout for group in groups.values() for rollout in usable(group)]
    correct = [[config.is_correct(rollout.reward) for rollout in usable(group)] for group in groups.values()]
    return {
        "tool_use_rate": _mean(rollout.uses_tool for rollout in rollouts),
        "tool_all_wrong_rate": _mean(_all_wrong(groups, config, uses_tool=True).values()),
        "no_tool_all_wrong_rate": _mean(_all_wrong(groups, config, uses_tool=False).values()),
        "pass@1": _mean(sum(group) / len(group) for group in correct if group),
        "pass@N": _mean(any(group) for group in correct if group),
        **_outcomes(rollouts, config),
    }


def _after(groups: Groups, continuations: Continuations, config: AxpoConfig) -> dict[str, float | None]:
    """What resampling changed."""
    recovered = {source: recovery(resampled, config) == 1 for source, resampled in continuations.items()}
    restored = {uid for (uid, _), success in recovered.items() if success}
    by_tool = {uid for (uid, _), resampled in continuations.items() if _right_by_tool(resampled, config)}
    still_wrong = (wrong and uid not in by_tool for uid, wrong in _all_wrong(groups, config, uses_tool=True).items())
    return {
        "tool_all_wrong_rate_after": _mean(still_wrong),
        "restore_rate": _mean(uid in restored for uid in {uid for uid, _ in recovered}),
        "recovery_rate": _mean(recovered.values()),
    }


def _right_by_tool(resampled: Sequence[Rollout], config: AxpoConfig) -> bool:
    """Whether a continuation joins the correct of the tool-using subgroup; from scratch, one may not call a tool."""
    return any(each.uses_tool and config.is_correct(each.reward) for each in usable(resampled))


def _resampling(
    groups: Groups, continuations: Continuations, config: AxpoConfig, rollouts_per_question: int
) -> dict[str, float | None]:
    """How far the budget went among the candidates."""
    limit = max_prefixes(len(groups), rollouts_per_question, config)
    explored = complete(groups, rollouts_per_question).values()
    candidates = {(candidate.uid, candidate.session) for group in explored for candidate in rank(group, config)}
    return {
        "triggered": float(len({uid for uid, _ in candidates})),
        "candidates": float(len(candidates)),
        "selected": float(len(continuations)),
        "budget_used": len(continuations) / limit if limit else None,
        "confidence/selected": _confidence(groups, continuations.keys()),
        "confidence/unselected": _confidence(groups, candidates - continuations.keys()),
    }


def _all_wrong(groups: Groups, config: AxpoConfig, *, uses_tool: bool) -> dict[str, bool]:
    """uid -> whether its subgroup is entirely wrong, for the questions that have such a rollout."""
    subgroups = {
        uid: [rollout for rollout in usable(group) if rollout.uses_tool == uses_tool] for uid, group in groups.items()
    }
    return {
        uid: not any(config.is_correct(rollout.reward) for rollout in subgroup)
        for uid, subgroup in subgroups.items()
        if subgroup
    }


def _outcomes(rollouts: Sequence[Rollout], config: AxpoConfig) -> dict[str, float | None]:
    outcomes = [(rollout.uses_tool, config.is_correct(rollout.reward)) for rollout in rollouts]
    return {
        f"outcome/{'tool' if uses_tool else 'no_tool'}_{'correct' if correct else 'wrong'}": _mean(
            outcome == (uses_tool, correct) for outcome in outcomes
        )
        for uses_tool in (True, False)
        for correct in (True, False)
    }


def _confidence(groups: Groups, sources: Iterable[tuple[str, int]]) -> float | None:
    """Mean confidence of the rollouts that are named by uid and session."""
    wanted = set(sources)
    return _mean(
        rollout.confidence
        for group in groups.values()
        for rollout in group
        if (rollout.uid, rollout.session) in wanted and rollout.confidence is not None
    )


def _mean(values: Iterable[float]) -> float | None:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else None
