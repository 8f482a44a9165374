"""What an evaluation has still to do, and what it could not finish although it tried everything.

questions, k, Store -> Plan: jobs to sample, jobs to score
Plan made after the run, Store -> Leftover -> lines for the terminal, and the share that `--max-failed` bounds
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from verl_axpo.core.types import Status
from verl_axpo.eval.store import Store
from verl_axpo.eval.types import Key, Question

SHOWN_REASONS = 3
SHOWN_CHARACTERS = 200  # of a reason: enough for a server's message, and one line of a log


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One rollout of one question; `again`: an earlier run tried it and failed."""

    question: Question
    rollout: int
    again: bool = False

    @property
    def key(self) -> Key:
        return self.question.benchmark, self.question.uid, self.rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is left to do: rollouts to sample, and those on disk without a verdict of today's rules, or of the judge."""

    total: int
    sample: tuple[Job, ...]
    score: tuple[Job, ...]

    @classmethod
    def of(
        cls,
        questions: Mapping[str, Sequence[Question]],
        rollouts: int,
        store: Store,
        judged: Callable[[Question], bool] = lambda question: False,
    ) -> "Plan":
        """Question by question, so that the k rollouts of a question find its prompt in the server's prefix cache.

        Args:
            questions: of each benchmark.
            rollouts: of each question.
            store: what is there.
            judged: whether this run's judge decides where a rule did not say right; without a judge it never does.

        Raises:
            ValueError: two questions of a benchmark share a uid, so that their rollouts could not be told apart.
        """
        everything = (question for group in questions.values() for question in group)
        jobs = [Job(question=question, rollout=at) for question in everything for at in range(rollouts)]
        keys = {job.key for job in jobs}
        if len(keys) != len(jobs):
            raise ValueError(f"questions: got {len(jobs)} rollouts but {len(keys)} names; each uid must be unique")
        usable = {key for key, status in store.statuses.items() if status is not Status.INFRA_FAILURE}
        missing = (job for job in jobs if job.key not in usable)

        def waits(job: Job) -> bool:
            unscored = job.key not in store.scores or store.scores[job.key].correct is None
            return unscored or (store.ruled_out(job.key) and judged(job.question))

        return cls(
            total=len(jobs),
            sample=tuple(replace(job, again=job.key in store.statuses) for job in missing),
            score=tuple(job for job in jobs if job.key in usable and waits(job)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """What counts nowhere: a prompt over the server's window, a picture that it cannot read, a judge that fails.

    Attributes:
        failed: rollouts without a usable trajectory.
        unscored: rollouts that were sampled and have no verdict.
        reasons: the most frequent reasons, with their numbers.
    """

    planned: int
    failed: int
    unscored: int
    reasons: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, plan: Plan, store: Store) -> "Leftover":
        """Of a plan made after the run."""
        failed = {job.key for job in plan.sample}
        reasons = [record.error or "no reason given" for record in store.rollouts(lambda key: key in failed)]
        reasons += [store.refused.get(job.key, "the judge was not asked any more") for job in plan.score]
        return cls(
            planned=plan.total, failed=len(failed), unscored=len(plan.score), reasons=tuple(_most_frequent(reasons))
        )

    @property
    def share(self) -> float:
        """Of the planned rollouts, in [0, 1]."""
        return (self.failed + self.unscored) / max(self.planned, 1)

    def lines(self) -> list[str]:
        """How many, and why."""
        counts = f"{self.failed} of {self.planned} rollouts failed, {self.unscored} have no verdict ({self.share:.2%})"
        return [counts, *(f"  {count} x {reason}" for reason, count in self.reasons)]


def _most_frequent(reasons: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Reasons that differ in their numbers alone (tokens, addresses) count together, told by the first of them."""
    examples: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for reason in reasons:
        text = " ".join(reason.split())[:SHOWN_CHARACTERS]
        kind = re.sub(r"\d+", "#", text)
        examples.setdefault(kind, text)
        counts[kind] += 1
    return ((examples[kind], count) for kind, count in counts.most_common(SHOWN_REASONS))
