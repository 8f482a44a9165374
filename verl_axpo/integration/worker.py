"""A group in its worker: its N sessions end, it is explored, and its rows are published.

    N sessions, scored (scoring.py) -> core.explore (trigger, rank, allocate, resample) -> rows of the batch

verl calls a worker's `_run_prompt`, which runs `_run_agent_loop` for each session, publishes each in
`_agent_loop_postprocess`, and marks the prompt as finished when all sessions have returned. Ours keeps that order, but
a session's `_agent_loop_postprocess` scores it and returns it, and a session ends when the last one has published for
all.
"""

import gc
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import Any

from verl.experimental.agent_loop import AgentLoopOutput

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.step import explore
from verl_axpo.core.trigger import is_triggered, subgroup
from verl_axpo.core.types import Candidate, Rollout
from verl_axpo.integration import agent_loop, modes
from verl_axpo.integration.batch_row import AXPO_FIELD, batch_row
from verl_axpo.integration.coordinator import Decisions
from verl_axpo.integration.entropy import mean_entropy
from verl_axpo.integration.group import Row, RunningGroup, gather_all
from verl_axpo.integration.rollout_trace import TracedQuestions, continued_under, rollout_span
from verl_axpo.integration.scoring import ScoringWorker
from verl_axpo.integration.shared import LoopContext, running_in
from verl_axpo.integration.speculation import Speculator, Tally
from verl_axpo.integration.trajectory import Trajectory, prefix_of, trained_part

ERROR_CHARACTERS = 300  # of a session's error, as the trainer's message shows it
HOST_LOOP = "tool_agent"  # verl's own loop, which a dataset may name per sample; ours does all that it does


class AxpoAgentLoopWorker(ScoringWorker):
    """verl's TransferQueue worker, which explores a group before publishing it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.axpo = AxpoConfig.from_mapping(self.config.algorithm.get("axpo") or {})
        self.asynchronous = modes.is_asynchronous(self.config)
        self.coordinator: Any = None
        self.traced = TracedQuestions()

    async def set_coordinator(self, coordinator: Any) -> None:
        """Called once by the manager, before any prompt."""
        self.coordinator = coordinator
        # What was imported lives as long as this process: 600,000 objects, for which each full collection would hold up
        # the event loop for a third of a second
        gc.freeze()

    # ------------------------------ verl's three hooks, outermost first ------------------------------

    async def _run_prompt(
        self, prompt: dict[str, Any], sampling_params: dict[str, Any], trajectory: dict[str, Any], trace: bool = False
    ) -> None:
        trace = trace or self.traced.admits(trajectory)
        if trajectory["validate"]:
            return await super()._run_prompt(prompt, sampling_params, trajectory, trace)
        if not self.groups:
            self.speculator = Speculator(self.axpo, self.coordinator)  # a new step
        uid = prompt["uid"]
        group = self.groups[uid] = RunningGroup(uid=uid, size=prompt.get("__rollout_n__", self.rollout_config.n))
        try:
            await super()._run_prompt(prompt, sampling_params, trajectory, trace)
        finally:
            del self.groups[uid]
            group.close()
            if not group.reported:  # the other groups of the step must not wait for this one
                await self._allocate(group, ())

    async def _run_agent_loop(
        self,
        sampling_params: dict[str, Any],
        trajectory: dict[str, Any],
        *,
        agent_name: str,
        trace: bool = True,
        **kwargs: Any,
    ) -> Any:
        agent_name = agent_loop.LOOP_NAME if agent_name == HOST_LOOP else agent_name
        run_host = partial(super()._run_agent_loop, sampling_params, agent_name=agent_name, trace=trace)

        async def run(rollout: int, **sample: Any) -> Any:  # in verl's trace, whose own number is 0 for all sessions
            return await run_host({**trajectory, "rollout_n": rollout}, **sample)

        try:
            if trajectory["validate"]:
                return await run(kwargs["session_id"], **kwargs)
            with rollout_span({**trajectory, "rollout_n": kwargs["session_id"]}, trace=trace):
                await self._run_session(self.groups[kwargs["uid"]], run, kwargs)
        except Exception as error:  # verl logs it and goes on without the session
            # Not awaited: nobody could do anything about a report that fails
            told = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self.coordinator.failed.remote(told[:ERROR_CHARACTERS])
            raise

    async def _agent_loop_postprocess(
        self, output: AgentLoopOutput | list[AgentLoopOutput], validate: bool, **kwargs: Any
    ) -> Trajectory | None:
        """Score the trajectory and return it; `_publish` puts it into the batch once its group has been explored.

        In validation it is published at once: AXPO never resamples there.
        """
        if not isinstance(output, Trajectory):
            if validate:
                return await super()._agent_loop_postprocess(output, validate, **kwargs)
            raise ValueError(
                f"AXPO: got the output of another agent loop, expected {agent_loop.LOOP_NAME} or a subclass; "
                f"set actor_rollout_ref.rollout.agent.default_agent_loop={agent_loop.LOOP_NAME} and drop other agent "
                "names from the dataset's agent_name column"
            )
        await self._score(output, validate, kwargs)
        if not validate:
            return output
        async with self.features_ahead(output):
            return await super()._agent_loop_postprocess(output, validate, **kwargs)

    # ------------------------------ a session ------------------------------

    async def _run_session(self, group: RunningGroup, run: Any, sample: dict[str, Any]) -> None:
        """Sample and score; the last session of the group to end publishes all of them."""
        try:
            with running_in(LoopContext(shared=group.shared)):
                group.trajectories[sample["session_id"]] = await run(sample["session_id"], **sample)
        finally:
            group.ended += 1
            if group.ended == group.size:
                await self._finish(group, run)
            elif self.axpo.speculate:
                self.speculator.session_ended(group, partial(self._continuations, group, run))
        await group.published.wait()

    # ------------------------------ a group whose sessions have ended ------------------------------

    async def _finish(self, group: RunningGroup, run: Any) -> None:
        """Explore the group if all of it is there, then publish what there is."""
        continuations: tuple[Rollout, ...] = ()
        try:
            if len(group.trajectories) == group.size:
                await self._measure_entropies(group)
                continuations = await explore(
                    group.rollouts(),
                    self.axpo,
                    allocate=partial(self._settled, group, run),
                    resample=partial(self._resample, group, run),
                    more=partial(self._more, group),
                )
            sources = {rollout.source for rollout in continuations}
            await self._publish(group, sources, await self.speculator.end(group))
        finally:
            await self.speculator.end(group)
            group.published.set()

    async def _settled(self, group: RunningGroup, run: Any, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Wait for the group's share; a speculation goes on meanwhile, and no longer if it is not in the share."""
        if self.axpo.speculate:
            self.speculator.settled(group, candidates, partial(self._continuations, group, run))
        share = await self._allocate(group, candidates)
        if not share and (running := group.wanted_speculation):
            running.discard()
        return share

    async def _allocate(self, group: RunningGroup, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        group.reported, group.candidates = True, len(candidates)
        if self.asynchronous:  # its trainer may sample the group when the coordinator has forgotten it
            group.decisions = await self.coordinator.decide.remote(group.uid, candidates)
            share = group.decisions.selected.get(group.uid, ())
        else:
            share = tuple(await self.coordinator.allocate.remote(group.uid, candidates))
        group.allocated = len(share)
        return share

    async def _more(self, group: RunningGroup) -> tuple[Candidate, ...]:
        """The group's next share; only streaming has a second."""
        if self.axpo.allocation != "streaming" or group.allocated == group.candidates:
            return ()
        share = tuple(await self.coordinator.more.remote(group.uid, group.allocated))
        group.allocated += len(share)
        return share

    async def _resample(self, group: RunningGroup, run: Any, candidate: Candidate) -> list[Rollout]:
        """K scored continuations of a candidate; raises if any of them does, which drops the candidate."""
        rows, begun = None, group.wanted_speculation
        if begun is not None and begun.session == candidate.session:
            begun.used = True
            rows = await begun.work
        rows = rows or await self._continuations(group, run, candidate.session)
        group.continuations[candidate.session] = rows
        return [row.rollout for _, row in rows]

    async def _continuations(
        self, group: RunningGroup, run: Any, session: int, tally: Tally | None = None
    ) -> list[Row]:
        """The rows of K continuations of `session`; raises if any of them does."""
        source, count = group.trajectories[session], self.axpo.num_continuations
        # Session ids after the ordinary ones, a function of source and k alone: keys and seeds do not depend on timing
        first = group.size + session * count
        context = LoopContext(prefix=prefix_of(source, self.axpo), source=session, shared=group.shared, tally=tally)
        sampled = await gather_all(
            continued_under(
                source.spans or copy_context(), context, run(session, **{**source.sample, "session_id": first + k})
            )
            for k in range(count)
        )
        # All that can fail about their rows fails here, where it costs the prefix; publishing is for the whole group
        return await gather_all(self._row(continuation, source=session) for continuation in sampled)

    async def _measure_entropies(self, group: RunningGroup) -> None:
        """Of the candidates and no others: each costs the server a pass over the context."""
        rollouts = group.rollouts()
        if self.axpo.uncertainty != "entropy" or not is_triggered(rollouts, self.axpo):
            return
        candidates = [group.trajectories[rollout.session] for rollout in subgroup(rollouts, self.axpo)]
        entropies = await gather_all(mean_entropy(self.llm_client, candidate) for candidate in candidates)
        for candidate, entropy in zip(candidates, entropies, strict=True):
            candidate.entropy = entropy

    async def _publish(self, group: RunningGroup, sources: set[int | None], wasted: int) -> None:
        teller = min(group.trajectories, default=None)

        async def put_rollout(trajectory: Trajectory) -> None:
            row = await self._row(trajectory, selected=trajectory.session in sources, decisions=group.decisions)
            await self._put((row[0], replace(row[1], wasted=wasted if trajectory.session == teller else 0)))

        resampled = [row for source in sources if source is not None for row in group.continuations[source]]
        await gather_all([*map(put_rollout, group.trajectories.values()), *map(self._put, resampled)])

    async def _row(
        self,
        trajectory: Trajectory,
        source: int | None = None,
        *,
        selected: bool = False,
        decisions: Decisions | None = None,
    ) -> Row:
        """The row of a rollout, or of a continuation of session `source`."""
        trained = trained_part(trajectory, self.axpo, selected=selected, continues=source is not None)
        return trained, await batch_row(
            trajectory,
            trained,
            source=source,
            selected=selected,
            tokenizer=self.tokenizer,
            trace_dir=self.axpo.trace_dir,
            decisions=decisions,
        )

    async def _put(self, row: Row) -> None:
        """Into verl's batch, as verl publishes a session."""
        trained, facts = row
        fields = {**trained.sample, AXPO_FIELD: facts.pack()}
        async with self.features_ahead(trained):
            await super()._agent_loop_postprocess(trained, False, **fields)
