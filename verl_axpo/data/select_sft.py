"""Which teacher trajectories become SFT data.

attempts -> correct ones that ended by themselves -> those that fit `max_tokens`
         -> at most `per_problem` of each problem, tool use preferred where it is scarce
         -> surplus of one kind dropped until the share with tool calls is the target -> seeded order

The paper keeps 64,274 correct trajectories, about 25 % of them with a tool call; how the share comes about it does not
say. Here a problem that was solved both ways goes to the kind that has less than its share. What is still too much of
one kind after that is dropped at random.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from verl_axpo.data.rollouts import Attempt, Key, name_of
from verl_axpo.data.stage import Selection, examples

# Why an attempt is not in the SFT set, in the order of the rules
RULES = (
    "unscored",
    "wrong",
    "dropped_not_ended",
    "not_for_sft",
    "dropped_too_long",
    "dropped_per_problem_cap",
    "dropped_tool_share",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SftConfig:
    """`tool_share` of the trajectories shall have a tool call (paper: about 0.25; None leaves it as it comes);
    `per_problem` at most of one problem; the trajectories of `val` problems are held out; one of more than
    `max_tokens`, prompt included, is dropped (None: none is)."""

    tool_share: float | None = 0.25
    per_problem: int = 1
    val: int = 128
    seed: int = 0
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.tool_share is not None and not 0 < self.tool_share < 1:
            raise ValueError(f"tool_share: got {self.tool_share}, expected between 0 and 1, or none at all")
        if self.per_problem < 1:
            raise ValueError(f"per_problem: got {self.per_problem}, expected at least 1")
        if self.val < 0:
            raise ValueError(f"val: got {self.val}, expected 0 or more")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens: got {self.max_tokens}, expected at least 1, or none at all")


def select(attempts: Iterable[Attempt], config: SftConfig) -> Selection[Attempt]:
    """Choose trajectories; the same attempts and seed give the same choice, in whatever order they come.

    Raises:
        ValueError: no trajectory is correct, the target needs a kind of which there is none, or lengths are asked for
            that nobody noted.
    """
    everything = sorted(attempts, key=lambda attempt: attempt.key)
    reasons = {attempt.key: _unfit(attempt) for attempt in everything}
    usable = [attempt for attempt in everything if reasons[attempt.key] is None]
    correct = _fitting(usable, config.max_tokens)
    if not correct:
        fit = f" and of at most {config.max_tokens} tokens (--max-tokens)" if usable else ""
        raise ValueError(
            f"none of the {len(everything)} trajectories is correct{fit}; sample more, or check the teacher"
        )
    rng = random.Random(f"sft/{config.seed}")
    rng.shuffle(correct)
    capped = _capped(correct, config)
    steered = capped if config.tool_share is None else _trimmed(capped, config.tool_share)
    for rule, before, after in (
        ("dropped_too_long", usable, correct),
        ("dropped_per_problem_cap", correct, capped),
        ("dropped_tool_share", capped, steered),
    ):
        stays = {attempt.key for attempt in after}
        reasons |= {attempt.key: rule for attempt in before if attempt.key not in stays}
    rng.shuffle(steered)
    problems = list(dict.fromkeys(attempt.problem_id for attempt in steered))
    if len(problems) <= config.val:
        raise ValueError(
            f"only {len(problems)} problems were solved, and --val {config.val} holds that many out; lower --val"
        )
    held_out = set(problems[: config.val])  # whole problems: a trajectory of the same one would be no test
    return Selection(
        train=tuple(attempt for attempt in steered if attempt.problem_id not in held_out),
        val=tuple(attempt for attempt in steered if attempt.problem_id in held_out),
        numbers={
            **_counts(reasons, len(everything)),
            **_numbers(everything, correct, steered),
            "val_problems": config.val,
        },
        examples=examples((rule, name_of(key)) for key, rule in reasons.items() if rule is not None),
    )


def _unfit(attempt: Attempt) -> str | None:
    """The rule by which an attempt is no demonstration, whatever else is chosen; None for one that is."""
    if attempt.correct is None:
        return "unscored"
    if not attempt.correct:
        return "wrong"
    if not attempt.ended:
        return "dropped_not_ended"
    return None if attempt.trainable else "not_for_sft"


def _counts(reasons: Mapping[Key, str | None], total: int) -> dict[str, int]:
    found = Counter(reasons.values())
    return {"trajectories": total, **{rule: found[rule] for rule in RULES}}


def _fitting(usable: Sequence[Attempt], most: int | None) -> list[Attempt]:
    """Those that SFT can take whole: verl stops at the first row that is longer than its `data.max_length`. The numbers
    are the teacher's server's; SFT may count some tokens more (docs/data.md, "The funnel")."""
    if most is None:
        return list(usable)
    unknown = sum(attempt.tokens is None for attempt in usable)
    if unknown:
        raise ValueError(
            f"max_tokens: {unknown} correct trajectories have no number of tokens; run `verl-axpo data collect` "
            "again, or leave --max-tokens out"
        )
    return [attempt for attempt in usable if attempt.tokens is not None and attempt.tokens <= most]


def _uses_tool(attempt: Attempt) -> bool:
    return attempt.tool_calls > 0


def _capped(correct: Sequence[Attempt], config: SftConfig) -> list[Attempt]:
    """At most `per_problem` of each problem, one round after the other; problems without a choice go first."""
    pools: dict[str, tuple[list[Attempt], list[Attempt]]] = {}
    for attempt in correct:
        pools.setdefault(attempt.problem_id, ([], []))[_uses_tool(attempt)].append(attempt)
    order = sorted(pools.values(), key=lambda pool: bool(pool[0]) and bool(pool[1]))
    chosen: list[Attempt] = []
    with_tool = 0
    for _ in range(config.per_problem):
        for pool in order:
            lacks_tools = config.tool_share is not None and with_tool < config.tool_share * (len(chosen) + 1)
            pick = pool[lacks_tools] or pool[not lacks_tools]
            if pick:
                chosen.append(pick.pop())
                with_tool += _uses_tool(chosen[-1])
    return chosen


def _trimmed(capped: list[Attempt], share: float) -> list[Attempt]:
    """Drop from the end the surplus of one kind."""
    kinds = [[attempt for attempt in capped if _uses_tool(attempt) is uses] for uses in (False, True)]
    if not all(kinds):
        have = "none" if not kinds[1] else "each"
        raise ValueError(
            f"tool_share: {have} of the {len(capped)} correct trajectories has a tool call, so a share of {share:.0%} "
            "is impossible; sample more per problem, or take all of them with --tool-share none"
        )
    plain, tool = kinds
    most_tool, most_plain = round(len(plain) * share / (1 - share)), round(len(tool) * (1 - share) / share)
    return plain[: max(1, most_plain)] + tool[: max(1, most_tool)]


def _numbers(everything: Sequence[Attempt], correct: Sequence[Attempt], steered: Sequence[Attempt]) -> dict[str, Any]:
    return {
        "correct": len(correct),
        "correct_tool_share": _share(correct),
        "selected": len(steered),
        "selected_tool_share": _share(steered),
        "selected_most_tokens": max((attempt.tokens or 0 for attempt in steered), default=0) or None,
        "problems_attempted": len({attempt.problem_id for attempt in everything}),
        "problems_solved": len({attempt.problem_id for attempt in correct}),
        "problems_selected": len({attempt.problem_id for attempt in steered}),
    }


def _share(attempts: Sequence[Attempt]) -> float:
    return round(sum(map(_uses_tool, attempts)) / len(attempts), 4)
