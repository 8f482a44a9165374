"""Questions x k rollouts through an agent, scored, on disk: what is missing is done, what is there is not done again.

    Plan(store) -> jobs -> `concurrency` workers: agent.run -> rollouts.jsonl
                                                      |_ scorer -> scores.jsonl   (does not hold a worker)

There is no barrier: a worker takes the next job as soon as it is free, so that the server stays full. A rollout that
failed for no fault of the policy is marked and tried again by the next run; so is a verdict that nobody could give, and
one that a rule gave alone once there is a judge to ask.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from verl_axpo.agent.types import Trajectory, Turn
from verl_axpo.core.types import Status
from verl_axpo.errors import InfraFailure
from verl_axpo.eval.records import Key, ResponseRecord, RolloutRecord, TurnRecord
from verl_axpo.eval.store import Store
from verl_axpo.eval.types import Question, Score
from verl_axpo.trace.writer import store_image

STOP_AFTER = 16  # failures in a row, or a full round of workers: then the server is gone, and trying on helps nobody

Scorer = Callable[[Question, str | None], Awaitable[Score]]
ReadAnswer = Callable[[str], str | None]


class Runs(Protocol):
    """What is evaluated: `verl_axpo.agent.loop.Agent`."""

    async def run(
        self, question: str, images: Sequence[bytes] = (), seed: Callable[[int], int | None] = ...
    ) -> Trajectory: ...


class Watcher(Protocol):
    """Told of everything that is finished; `verl_axpo.eval.live` shows it."""

    def planned(self, plan: "Plan") -> None: ...
    def rolled_out(self, record: RolloutRecord) -> None: ...
    def scored(self, score: Score) -> None: ...


class ServerLost(InfraFailure):
    """Nothing but failures: the run is stopped, and what it has finished stays."""


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
    """What is left to do: rollouts to sample, and rollouts on disk that nobody has scored yet, or no judge."""

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


class Runner:
    """Works off a plan.

    Args:
        agent: gives the trajectories.
        scorer: (question, answer) -> verdict; an InfraFailure of its judge leaves the rollout unscored.
        judge: whether the scorer has a judge to ask; kept with each verdict.
        read_answer: last turn's text -> what the scorer is asked about.
        store: open for writing.
        concurrency: trajectories at a time.
        seed: (job, turn) -> the request's seed.
        watcher: is told what is finished.
    """

    def __init__(
        self,
        *,
        agent: Runs,
        scorer: Scorer,
        judge: bool,
        read_answer: ReadAnswer,
        store: Store,
        concurrency: int,
        seed: Callable[[Job, int], int | None],
        watcher: Watcher,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency: got {concurrency}, expected at least 1")
        self.agent, self.scorer, self.read_answer, self.store = agent, scorer, read_answer, store
        self.judge, self.concurrency, self.seed, self.watcher = judge, concurrency, seed, watcher
        self._failures = 0  # in a row
        self._verdicts: set[asyncio.Task[None]] = set()

    async def run(self, plan: Plan) -> None:
        """Do all of it.

        Raises:
            ServerLost: too many failures in a row; run again when the server is back.
            ValueError: the server refuses the key or the model.
        """
        self.watcher.planned(plan)
        jobs = iter(plan.sample)
        old = asyncio.create_task(self._score_old(plan.score))
        workers = [asyncio.create_task(self._work(jobs)) for _ in range(min(self.concurrency, len(plan.sample)))]
        try:
            await asyncio.gather(old, *workers)
            while self._verdicts:
                await asyncio.gather(*self._verdicts)
        finally:
            await _cancelled([old, *workers, *self._verdicts])

    async def _work(self, jobs: Iterator[Job]) -> None:
        for job in jobs:
            record = await self._sample(job)
            await self.store.add_rollout(record)
            self.watcher.rolled_out(record)
            if record.status is Status.INFRA_FAILURE:
                if not job.again:  # what fails every time says nothing about the server
                    self._count_failure(record)
                continue
            self._failures = 0
            verdict = asyncio.create_task(self._score(job, record.answer))
            self._verdicts.add(verdict)
            verdict.add_done_callback(self._verdict_given)

    async def _sample(self, job: Job) -> RolloutRecord:
        one = job.question
        trajectory = await self.agent.run(one.prompt, one.images, lambda turn: self.seed(job, turn))
        last = trajectory.last_text
        answer = None if last is None else self.read_answer(last)
        return await asyncio.to_thread(to_record, job, trajectory, answer, self.store.folder)

    def _count_failure(self, record: RolloutRecord) -> None:
        self._failures += 1
        if self._failures >= max(STOP_AFTER, self.concurrency):
            raise ServerLost(
                f"{self._failures} rollouts in a row failed, the last with: {record.error}. What is finished is kept: "
                "mend the service and run the same command again"
            )

    async def _score_old(self, jobs: Sequence[Job]) -> None:
        """Rollouts of an earlier run: read back in one pass, scored as many at a time as there are workers."""
        waiting = {job.key: job for job in jobs}
        gate = asyncio.Semaphore(self.concurrency)

        async def gated(job: Job, answer: str | None) -> None:
            async with gate:
                await self._score(job, answer)

        found = [(waiting[one.key], one.answer) for one in self.store.rollouts(lambda key: key in waiting)]
        await asyncio.gather(*(gated(job, answer) for job, answer in found))

    async def _score(self, job: Job, answer: str | None) -> None:
        try:
            score = await self.scorer(job.question, answer)
        except InfraFailure as failure:
            score = Score(correct=None, by="nobody", reason=f"no verdict: {failure}")
        await self.store.add_score(job.key, score, judge=self.judge)
        self.watcher.scored(score)

    def _verdict_given(self, verdict: asyncio.Task[None]) -> None:
        # One that failed stays, for `run` to raise what it raised
        if not verdict.cancelled() and verdict.exception() is None:
            self._verdicts.discard(verdict)


def to_record(job: Job, trajectory: Trajectory, answer: str | None, folder: Path) -> RolloutRecord:
    """A trajectory as it is kept, its pictures stored in `folder`."""
    return RolloutRecord(
        benchmark=job.question.benchmark,
        uid=job.question.uid,
        rollout=job.rollout,
        status=trajectory.status,
        answer=answer,
        uses_tool=trajectory.uses_tool,
        response_tokens=trajectory.response_tokens,
        turns=tuple(_turn_record(turn, folder) for turn in trajectory.turns),
        error=trajectory.error,
        token_exact=trajectory.token_exact,
        started=trajectory.started,
        finished=trajectory.finished,
    )


def _turn_record(turn: Turn, folder: Path) -> TurnRecord:
    responses = tuple(
        ResponseRecord(text=one.text, images=tuple(store_image(folder, image) for image in one.images))
        for one in turn.responses
    )
    return TurnRecord(
        text=turn.text,
        calls=turn.calls,
        responses=responses,
        unanswered=turn.unanswered,
        prompt_tokens=turn.prompt_tokens,
        completion_tokens=turn.completion_tokens,
        finish_reason=turn.finish_reason,
        seconds=turn.seconds,
    )


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
