"""How long the rollouts of a step take under each allocation: a discrete-event model that runs the real decisions.

    questions -> sessions on replicas that share their speed -> `explore`, `BudgetCoordinator`, `Speculator` -> seconds

The model's own part is the engine (decoding gets slower with the number of sequences), the tools, and made-up questions
with a long tail: hard questions take longer. Time is virtual, so a step of an hour takes a second. All policies see the
same rollouts, and a continuation is a function of its source, as in deterministic mode. Not in it: prefill, log-probs
and the update, whose cost is that of the extra rows.

    python benchmarks/step_model.py [--size 8b-8] [--seeds 10]
    python benchmarks/step_model.py --run outputs/step_cost/sync       as the run that step_cost.py measured was

With `--run`, lengths, tools and the engine's speed are those of the run's GRPO steps, and nothing of its AXPO steps:
what the model says of them is a prediction. `correct_threshold` is 2, as in that run.
"""

import argparse
import asyncio
import heapq
import math
import random
import selectors
import statistics
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import step_cost
from scipy.optimize import nnls

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.step import explore
from verl_axpo.core.types import Candidate, Rollout
from verl_axpo.integration.coordinator import BudgetCoordinator
from verl_axpo.integration.speculation import NotWanted, Speculation, Speculator, Tally
from verl_axpo.trace import TrajectoryRecord
from verl_axpo.trace.reader import list_steps, questions_of, read_step

N = 8  # rollouts of a question
SPREAD = 0.31  # standard deviation of log(0.5 + hard), `hard` even between 0 and 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A step: questions, engine, lengths.

    Attributes:
        questions: B.
        replicas: inference servers.
        slots: sequences that a server decodes at once.
        seconds_per_token: of a sequence that decodes alone.
        seconds_per_sequence: by which each further sequence slows a token down.
        median_tokens: of a turn of a question of middle difficulty.
        sigma: of the logarithm of the tokens.
        max_tokens: of a response.
        tool_median, tool_sigma: seconds of a call, log-normal.
        seconds_per_request: of a turn beyond its decoding; request_per_sequence: for each sequence next to it.
        tool_seconds: measured calls, of which one is drawn for each; else they are log-normal.
        hardness: how much longer the turns of hard questions are; 0: not at all.
        tool_rate: of rollouts; 0.27 at the first step of the paper (section 1).
        call_share: of a turn's tokens, the call after its opening tag.
        second_turn: tokens of a second turn as a share of the first.
    """

    questions: int
    replicas: int
    slots: int
    seconds_per_token: float
    seconds_per_sequence: float
    median_tokens: float
    sigma: float
    max_tokens: int
    tool_median: float
    tool_sigma: float
    seconds_per_request: float = 0.0
    request_per_sequence: float = 0.0
    tool_seconds: tuple[float, ...] = ()
    hardness: float = 1.0
    tool_rate: float = 0.27
    call_share: float = 0.05
    second_turn: float = 0.5


# 8B in bfloat16: 16 GB of weights at 2 TB/s are 8 ms a token, and 256 sequences about double it. Assumed, not measured
_8B: dict[str, Any] = {
    "questions": 256, "slots": 256, "seconds_per_token": 0.010, "seconds_per_sequence": 4e-5,
    "median_tokens": 1500, "sigma": 0.9, "max_tokens": 16_384, "tool_median": 1.0, "tool_sigma": 1.0,
}  # fmt: skip
SIZES = {
    "8b-8": Size(replicas=8, **_8B),
    "8b-64": Size(replicas=64, **_8B),
}  # fmt: skip


class Replica:
    """A server whose sequences decode at the same speed, which falls with their number."""

    def __init__(self, size: Size) -> None:
        self.size, self.loop = size, asyncio.get_running_loop()
        self.decoded, self.since, self.version = 0.0, self.loop.time(), 0  # tokens of a sequence that was always there
        self.running: list[tuple[float, int, asyncio.Future[None]]] = []
        self.requests = 0
        self.places = asyncio.Semaphore(size.slots)

    async def generate(self, tokens: int) -> None:
        """Takes as long as the others allow."""
        self.requests += 1
        await asyncio.sleep(self.size.seconds_per_request + self.size.request_per_sequence * self.requests)
        async with self.places:
            self._advance()
            done: asyncio.Future[None] = self.loop.create_future()
            heapq.heappush(self.running, (self.decoded + tokens, id(done), done))
            self._wait_for_next()
            await done
        self.requests -= 1

    def _speed(self) -> float:
        return 1.0 / (self.size.seconds_per_token + self.size.seconds_per_sequence * len(self.running))

    def _advance(self) -> None:
        self.decoded += (self.loop.time() - self.since) * self._speed() if self.running else 0.0
        self.since = self.loop.time()

    def _wait_for_next(self) -> None:
        self.version += 1
        if self.running:
            delay = max(0.0, (self.running[0][0] - self.decoded) / self._speed())
            self.loop.call_later(delay, self._ended, self.version)

    def _ended(self, version: int) -> None:
        if version != self.version:
            return  # the speed has changed since
        self._advance()
        self.decoded = max(self.decoded, self.running[0][0])
        while self.running and self.running[0][0] <= self.decoded:
            heapq.heappop(self.running)[2].set_result(None)
        self._wait_for_next()


@dataclass(slots=True, kw_only=True)
class Group:
    """A question while its sessions run: what `Speculator` needs of the worker's `RunningGroup`."""

    uid: str
    size: int = N
    ended: int = 0
    sampled: dict[int, Rollout] = field(default_factory=dict)  # by session
    candidates: int = 0
    allocated: int = 0
    speculations: list[Speculation] = field(default_factory=list)

    def rollouts(self) -> list[Rollout]:
        return [self.sampled[session] for session in sorted(self.sampled)]

    @property
    def wanted_speculation(self) -> Speculation | None:
        return next((each for each in self.speculations if each.tally.wanted), None)


class Step:
    """One step under one policy."""

    def __init__(self, size: Size, config: AxpoConfig, seed: int) -> None:
        self.size, self.config, self.seed = size, config, seed
        self.replicas = [Replica(size) for _ in range(size.replicas)]
        self.coordinator = BudgetCoordinator(config, N, patience=math.inf)
        handle = SimpleNamespace(
            may_speculate=SimpleNamespace(remote=self.coordinator.may_speculate),
            end_speculation=SimpleNamespace(
                remote=lambda uid: asyncio.ensure_future(self.coordinator.end_speculation(uid))
            ),
        )
        self.speculator = Speculator(config, handle)
        self.tokens = {"rollouts": 0, "continuations": 0, "wasted": 0}

    async def run(self) -> tuple[float, set[tuple[str, int]]]:
        """Seconds until the last group is published, and the prefixes that were selected."""
        started, uids = asyncio.get_running_loop().time(), [f"q{at}" for at in range(self.size.questions)]
        await self.coordinator.begin(uids)
        await asyncio.gather(*(self._group(at, uid) for at, uid in enumerate(uids)))
        selected = (await self.coordinator.decisions(uids)).selected
        keys = {(candidate.uid, candidate.session) for share in selected.values() for candidate in share}
        return asyncio.get_running_loop().time() - started, keys

    async def _group(self, at: int, uid: str) -> None:
        group: Any = Group(uid=uid)
        await asyncio.gather(*(self._session(group, at, session) for session in range(N)))
        await explore(
            group.rollouts(),
            self.config,
            allocate=partial(self._allocate, group, at),
            resample=partial(self._resample, group, at),
            more=partial(self._more, group),
        )
        wasted = await self.speculator.end(group)  # on a line of its own: other groups add to the sum meanwhile
        self.tokens["wasted"] += wasted

    async def _session(self, group: Any, at: int, session: int) -> None:
        group.sampled[session] = await self._trajectory(at, group.uid, session)
        group.ended += 1
        if self.config.speculate and group.ended < N:
            self.speculator.session_ended(group, partial(self._continuations, group, at))

    async def _allocate(self, group: Any, at: int, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        if self.config.speculate:
            self.speculator.settled(group, candidates, partial(self._continuations, group, at))
        share = await self.coordinator.allocate(group.uid, candidates)
        if not share and (running := group.wanted_speculation):
            running.discard()
        group.candidates, group.allocated = len(candidates), len(share)
        return share

    async def _more(self, group: Any) -> tuple[Candidate, ...]:
        if self.config.allocation == "exact" or group.allocated == group.candidates:
            return ()
        share = await self.coordinator.more(group.uid, group.allocated)
        group.allocated += len(share)
        return share

    async def _resample(self, group: Any, at: int, candidate: Candidate) -> list[Rollout]:
        rows, begun = None, group.wanted_speculation
        if begun is not None and begun.session == candidate.session:
            begun.used = True
            rows = await begun.work
        return rows or await self._continuations(group, at, candidate.session)

    async def _continuations(self, group: Any, at: int, session: int, tally: Tally | None = None) -> list[Any]:
        first, count = N + session * self.config.num_continuations, self.config.num_continuations
        every = (self._trajectory(at, group.uid, first + k, session, tally) for k in range(count))
        results = await asyncio.gather(*every, return_exceptions=True)
        if any(isinstance(result, BaseException) for result in results):
            raise NotWanted
        return results

    async def _trajectory(
        self, at: int, uid: str, session: int, source: int | None = None, tally: Tally | None = None
    ) -> Rollout:
        """Thinking, and with a tool call also the call and a second turn; all of it a function of seed and session."""
        size, replica = self.size, self.replicas[at % self.size.replicas]
        question, rng = random.Random(f"{self.seed}/{at}"), random.Random(f"{self.seed}/{at}/{session}")
        hard, tool_rate = question.random(), min(1.0, question.gammavariate(1.0, size.tool_rate))
        uses_tool = source is not None or rng.random() < tool_rate
        scale = math.log(size.median_tokens) + size.hardness * math.log(0.5 + hard)
        drawn = [min(size.max_tokens, int(rng.lognormvariate(scale, size.sigma)) + 1) for _ in range(1 + uses_tool)]
        # Of a continuation's first turn only the call is new; after a tool's answer there is less left to think about
        shares = (size.call_share if source is not None else 1.0, size.second_turn)
        lengths = [1 + int(share * length) for share, length in zip(shares, drawn, strict=False)]
        for turn, length in enumerate(lengths):
            if tally is not None and not tally.wanted:
                raise NotWanted
            if turn:
                drawn_call = rng.lognormvariate(math.log(size.tool_median), size.tool_sigma)
                await asyncio.sleep(rng.choice(size.tool_seconds) if size.tool_seconds else drawn_call)
            await replica.generate(length)
            self._count(length, source, tally)
        return Rollout(
            uid=uid,
            session=session,
            reward=float(rng.random() < (1.0 - hard) ** 1.5),
            uses_tool=uses_tool,
            confidence=rng.random() if uses_tool else None,
            source=source,
        )

    def _count(self, length: int, source: int | None, tally: Tally | None) -> None:
        self.tokens["rollouts" if source is None else "continuations"] += length
        if tally is not None:
            tally.tokens += length


class VirtualSelector(selectors.SelectSelector):
    """Instead of waiting, the clock of the loop moves on."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.now += timeout or 0.0
        return []


def simulate(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """The result of a coroutine in virtual time."""
    selector = VirtualSelector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    try:
        return loop.run_until_complete(work())
    finally:
        loop.close()


def measured(size: Size, config: AxpoConfig, seed: int) -> tuple[float, set[tuple[str, int]], dict[str, int]]:
    """Seconds, selected prefixes and tokens of a step."""

    async def work() -> tuple[float, set[tuple[str, int]], dict[str, int]]:
        step = Step(size, config, seed)
        return *await step.run(), step.tokens

    result: tuple[float, set[tuple[str, int]], dict[str, int]] = simulate(work)
    return result


def of_run(run: Path) -> Size:
    """A step like the GRPO steps of a synchronous run of `step_cost.py`."""
    first, arms = step_cost.WARM_UP * len(step_cost.ARMS) + 1, len(step_cost.ARMS)
    steps = [read_step(run / "trace", step).records for step in list_steps(run / "trace") if step >= first]
    steps = steps[::arms]
    rows = [row for records in steps for row in records]
    groups = [question.records for records in steps for question in questions_of(records)]
    logs = [[math.log(row.turn_lengths[0]) for row in group] for group in groups]
    between = statistics.pstdev([statistics.fmean(group) for group in logs])
    called = [row for row in rows if row.tool_call_span is not None]
    answered = [row.turn_lengths[1] / row.turn_lengths[0] for row in called if len(row.turn_lengths) > 1]
    request, beside, token, sequence = engine([column for records in steps for column in columns(records)])
    return Size(
        questions=len(groups) // len(steps),
        replicas=1,
        slots=128,
        seconds_per_token=token,
        seconds_per_sequence=sequence,
        seconds_per_request=request,
        request_per_sequence=beside,
        median_tokens=math.exp(statistics.fmean(length for group in logs for length in group)),
        sigma=math.sqrt(statistics.fmean(statistics.pvariance(group) for group in logs)),
        hardness=between / SPREAD,
        max_tokens=128,
        tool_median=1.0,
        tool_sigma=1.0,
        tool_seconds=tuple(call.seconds for row in rows for call in row.tool_calls),
        tool_rate=len(called) / len(rows),
        call_share=statistics.fmean((row.turn_lengths[0] - row.prefix_len) / row.turn_lengths[0] for row in called),
        second_turn=statistics.fmean(answered),
    )


def columns(records: Sequence[TrajectoryRecord]) -> list[tuple[float, ...]]:
    """Of each row of a step: its turns and tokens, each also times the sequences next to it, and seconds in the engine.

    A row is next to another for the share of the other's life that it lives, its tools' time taken off.
    """
    busy = [step_cost.in_engine(row) / (row.finished - row.started) for row in records]
    table = []
    for row in records:
        life = row.finished - row.started
        others = sum(
            share * max(0.0, min(row.finished, other.finished) - max(row.started, other.started)) / life
            for other, share in zip(records, busy, strict=True)
        )
        turns, tokens = len(row.turn_lengths), sum(row.turn_lengths)
        table.append((turns, turns * others, tokens, tokens * others, step_cost.in_engine(row)))
    return table


def engine(table: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """Seconds of a request and of a token, each alone and per sequence next to it, that fit best, none below 0."""
    rows = np.array(table)
    return tuple(float(value) for value in nnls(rows[:, :-1], rows[:, -1])[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="8b-8")
    parser.add_argument("--run", type=Path, help="the synchronous run of step_cost.py to be like, instead of a size")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=float, default=0.25)
    arguments = parser.parse_args()
    size = of_run(arguments.run) if arguments.run else SIZES[arguments.size]
    if arguments.run:
        print(replace(size, tool_seconds=()), f"{len(size.tool_seconds)} calls")
    always: dict[str, Any] = {"budget": arguments.budget, "correct_threshold": 2.0 if arguments.run else 1.0}
    policies = {
        "exact": AxpoConfig(**always),
        "exact, speculate": AxpoConfig(**always, speculate=True),
        "streaming": AxpoConfig(**always, allocation="streaming"),
    }
    grpo = [measured(size, AxpoConfig(**{**always, "budget": 0}), seed) for seed in range(arguments.seeds)]
    exact = [measured(size, policies["exact"], seed)[1] for seed in range(arguments.seeds)]
    print(f"r={arguments.budget}: GRPO's rollouts take {statistics.fmean(run[0] for run in grpo):.1f} s")
    for name, config in policies.items():
        runs = [measured(size, config, seed) for seed in range(arguments.seeds)]
        ratios = [run[0] / base[0] for run, base in zip(runs, grpo, strict=True)]
        extra = [(run[2]["continuations"] - run[2]["wasted"]) / run[2]["rollouts"] for run in runs]
        wasted = [run[2]["wasted"] / run[2]["rollouts"] for run in runs]
        common = [len(run[1] & chosen) / max(1, len(chosen)) for run, chosen in zip(runs, exact, strict=True)]
        print(
            f"{name:18} seconds x {statistics.fmean(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), "
            f"extra tokens {statistics.fmean(extra):.3f}, wasted {statistics.fmean(wasted):.3f}, "
            f"prefixes {statistics.fmean(len(run[1]) for run in runs):.1f}, as exact {statistics.fmean(common):.2f}"
        )


if __name__ == "__main__":
    main()
