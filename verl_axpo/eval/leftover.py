"""What a run could not finish although it tried everything, and why.

    Plan of what is still to do, Store -> Leftover -> lines for the terminal, and the share that `--max-failed` bounds

A few rollouts fail every time: a prompt over the server's window, a picture that it cannot read. They count nowhere.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from verl_axpo.eval.plan import Plan
from verl_axpo.eval.store import Store

SHOWN_REASONS = 3
SHOWN_CHARACTERS = 200  # of a reason: enough for a server's message, and one line of a log


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """`failed`: without a usable rollout. `unscored`: sampled, without a verdict. `reasons`: the most frequent, with
    their numbers."""

    planned: int
    failed: int
    unscored: int
    reasons: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, plan: Plan, store: Store) -> "Leftover":
        """Of a plan made after the run."""
        return cls(
            planned=plan.total,
            failed=len(plan.sample),
            unscored=len(plan.score),
            reasons=tuple(_most_frequent(_reasons(plan, store))),
        )

    @property
    def share(self) -> float:
        """Of the planned rollouts, in [0, 1]."""
        return (self.failed + self.unscored) / max(self.planned, 1)

    def lines(self) -> list[str]:
        """How many, and why."""
        counts = f"{self.failed} of {self.planned} rollouts failed, {self.unscored} have no verdict ({self.share:.2%})"
        return [counts, *(f"  {count} x {reason}" for reason, count in self.reasons)]


def _reasons(plan: Plan, store: Store) -> Iterator[str]:
    failed = {job.key for job in plan.sample}
    for record in store.rollouts(lambda key: key in failed):
        yield record.error or "no reason given"
    for job in plan.score:
        yield store.refused.get(job.key, "the judge was not asked any more")


def _most_frequent(reasons: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Reasons that differ in their numbers alone (tokens, addresses) are one, told by the first of them."""
    examples: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for reason in reasons:
        text = " ".join(reason.split())[:SHOWN_CHARACTERS]
        kind = re.sub(r"\d+", "#", text)
        examples.setdefault(kind, text)
        counts[kind] += 1
    return ((examples[kind], count) for kind, count in counts.most_common(SHOWN_REASONS))
