"""Questions x k rollouts through an agent, scored, on disk: what is missing is done, what is there is not done again.

    Plan(store) -> jobs -> `concurrency` workers: agent.run -> rollouts.jsonl
                                                      |_ scorer -> scores.jsonl   (does not hold a worker)

There is no barrier: a worker takes the next job as soon as it is free, so that the server stays full. A rollout that
failed for no fault of the policy is marked and tried again by the next run; so is a verdict that nobody could give, one
that a rule gave alone once there is a judge to ask, and one of other rules than today's. A question or an answer that
breaks the agent or the scorer costs itself.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from verl_axpo.core.types import Status
from verl_axpo.errors import InfraFailure, ServerRefused
from verl_axpo.eval.live import Live
from verl_axpo.eval.plan import Job, Plan
from verl_axpo.eval.registry import Registry, judged
from verl_axpo.eval.settings import Settings
from verl_axpo.eval.store import Store
from verl_axpo.eval.types import AgentRun, Question, RolloutRecord, Score

STOP_AFTER = 16  # failures in a row, or a full round of workers: then the server is gone, and trying on helps nobody
JUDGE_GONE_AFTER = 16  # answers in a row that the judge failed on, each after its own retries


class Runs(Protocol):
    """What is evaluated: `verl_axpo.agent.loop.Agent`."""

    async def run(
        self, question: str, images: Sequence[bytes] = (), seed: Callable[[int], int | None] = ...
    ) -> AgentRun: ...


class ServerLost(InfraFailure):
    """Nothing but failures: the run is stopped, and what it has finished stays."""


@dataclass(kw_only=True)
class Runner:
    """Works off a plan.

    Attributes:
        registry: scores the answers.
        judge: handed to the registry's `score`; None: rules alone.
        agent: gives the trajectories; None for a plan that samples nothing.
        read_answer: last turn's text -> what the scorer is asked about.
        settings: the limit of response tokens, after which a turn has no answer, and the run's seed.
        store: open for writing.
        concurrency: trajectories at a time.
        live: is told what is finished.
    """

    registry: Registry
    judge: Any
    agent: Runs | None = None
    read_answer: Callable[[str], str | None]
    settings: Settings
    store: Store
    concurrency: int
    live: Live
    _failures: int = 0  # in a row
    _judge_failures: int = 0  # in a row
    _verdicts: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ValueError(f"concurrency: got {self.concurrency}, expected at least 1")

    def waits_for_judge(self, question: Question) -> bool:
        """Whether the judge decides on an answer that no rule calls right; without one nothing waits."""
        return self.judge is not None and self._is_judged(question)

    def _is_judged(self, question: Question) -> bool:
        decides = judged(self.registry)
        return decides is None or decides(question)

    async def run(self, plan: Plan) -> None:
        """Do all of it.

        Raises:
            ServerLost: too many failures in a row; run again when the server is back.
            ServerRefused: it does not know the key or the model.
            OSError: the disk is full; what is finished stays.
        """
        self.live.planned(plan)
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
            self.live.rolled_out(record)
            if record.status is Status.INFRA_FAILURE:
                if not job.again:  # what fails every time says nothing about the server
                    self._count_failure(record)
                continue
            self._failures = 0
            verdict = asyncio.create_task(self._score(job, record))
            self._verdicts.add(verdict)
            verdict.add_done_callback(self._verdict_given)

    async def _sample(self, job: Job) -> RolloutRecord:
        assert self.agent is not None
        question, started = job.question, time.time()
        try:
            came = await self.agent.run(question.prompt, question.images, partial(self._seed, job))
        except Exception as error:
            if self._stops_all(error):
                raise
            # Of this question alone: nothing that it holds may stop the others
            came = AgentRun(
                status=Status.INFRA_FAILURE,
                turns=(),
                error=f"the agent failed: {error!r:.500}",
                started=started,
                finished=time.time(),
            )
        record = RolloutRecord.of(job.key, came)
        try:
            return replace(record, answer=self._answer(record))
        except Exception:  # the scorer meets it again, and leaves the rollout unscored
            return record

    def _seed(self, job: Job, turn: int) -> int | None:
        """Of a request: a function of what is asked, not of when."""
        if self.settings.sampling.seed is None:
            return None
        from verl_axpo.integration.agent_loop import request_seed

        uid = f"{job.question.benchmark}/{job.question.uid}"
        return request_seed(self.settings.sampling.seed, 0, uid, job.rollout, turn)

    def _stops_all(self, error: Exception) -> bool:
        """Whether no other rollout would fare better: the server refuses the run, or the folder takes no picture."""
        file = error.filename if isinstance(error, OSError) else None
        return isinstance(error, ServerRefused) or (
            isinstance(file, str | Path) and Path(file).is_relative_to(self.store.folder)
        )

    def _answer(self, record: RolloutRecord) -> str | None:
        """Read from the text whenever it is scored: which part of it is the answer is a rule, too."""
        if not record.turns or record.response_tokens > self.settings.limits.response_tokens:
            return None
        return self.read_answer(record.turns[-1].text)

    def _count_failure(self, record: RolloutRecord) -> None:
        self._failures += 1
        if self._failures >= max(STOP_AFTER, self.concurrency):
            raise ServerLost(
                f"{self._failures} rollouts in a row failed, the last with: {record.error}. What is finished is kept: "
                "mend the service and run the same command again"
            )

    async def _score_old(self, jobs: Sequence[Job]) -> None:
        """Rollouts of an earlier run: read back one at a time, scored as many at a time as there are workers."""
        waiting = {job.key: job for job in jobs}
        records = self.store.rollouts(lambda key: key in waiting)

        async def work() -> None:
            for record in records:
                await self._score(waiting[record.key], record)

        await asyncio.gather(*(work() for _ in range(min(self.concurrency, len(jobs)))))

    async def _score(self, job: Job, record: RolloutRecord) -> None:
        ask = self.judge is not None and self._judge_failures < JUDGE_GONE_AFTER
        score = await self._verdict(job.question, record, ask)
        await self.store.add_score(job.key, score, judge=ask or not self._is_judged(job.question))
        self.live.scored(score)

    async def _verdict(self, question: Question, record: RolloutRecord, ask: bool) -> Score:
        try:
            score = await self.registry.score(question, self._answer(record), self.judge if ask else None)
            if not isinstance(score, Score):
                raise TypeError(f"the scorer returned {score!r:.200}, expected a Score")
        except InfraFailure as failure:
            score = Score(correct=None, by="nobody", reason=f"no verdict: {failure}")
        except Exception as error:  # of this answer alone, see above
            return Score(correct=None, by="nobody", reason=f"no verdict: the scorer failed: {error!r:.500}")
        if ask:
            self._heed_judge(score)
        return score

    def _heed_judge(self, score: Score) -> None:
        """Count its failures in a row; a verdict of a rule says nothing about the judge."""
        if score.by == "judge":
            self._judge_failures = 0
        elif score.by == "nobody" and self._judge_failures < JUDGE_GONE_AFTER:
            self._judge_failures += 1
            if self._judge_failures == JUDGE_GONE_AFTER:
                self.live.judge_lost(JUDGE_GONE_AFTER, score.reason)

    def _verdict_given(self, verdict: asyncio.Task[None]) -> None:
        # One that failed stays, for `run` to raise what it raised
        if not verdict.cancelled() and verdict.exception() is None:
            self._verdicts.discard(verdict)


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
