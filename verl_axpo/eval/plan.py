"""What an evaluation has still to do: questions, k, what is on disk -> jobs to sample, jobs to score."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from verl_axpo.core.types import Status
from verl_axpo.eval.records import Key
from verl_axpo.eval.store import Store
from verl_axpo.eval.types import Question


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

    @property
    def empty(self) -> bool:
        return not self.sample and not self.score

    @classmethod
    def of(
        cls,
        questions: Mapping[str, Sequence[Question]],
        rollouts: int,
        store: Store,
        judged: Callable[[Question], bool] = lambda question: False,
    ) -> "Plan":
        """Question by question, so that the k rollouts of one find its prompt in the server's prefix cache.

        Args:
            questions: of each benchmark.
            rollouts: of each question.
            store: what is there.
            judged: whether this run's judge decides where a rule did not say right; without a judge it never does.

        Raises:
            ValueError: two questions of a benchmark share a uid, so that their rollouts could not be told apart.
        """
        jobs = [Job(question=one, rollout=at) for some in questions.values() for one in some for at in range(rollouts)]
        keys = {job.key for job in jobs}
        if len(keys) != len(jobs):
            raise ValueError(f"questions: got {len(jobs)} rollouts but {len(keys)} names; each uid must be unique")
        unusable = (None, Status.INFRA_FAILURE)
        missing = (job for job in jobs if store.statuses.get(job.key) in unusable)
        sample = tuple(replace(job, again=job.key in store.statuses) for job in missing)
        kept = [job for job in jobs if store.statuses.get(job.key) not in unusable]
        score = tuple(
            job for job in kept if _unscored(job, store) or (store.ruled_out(job.key) and judged(job.question))
        )
        return cls(total=len(jobs), sample=sample, score=score)


def _unscored(job: Job, store: Store) -> bool:
    return job.key not in store.scores or store.scores[job.key].correct is None
