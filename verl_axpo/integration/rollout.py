"""The rollout hook: a group of N sessions settles, is explored, and is published, before verl sees it as finished.

    manager: begin the step's budget, hand prompts to the workers
    worker:  N sessions, scored but unpublished -> core.explore (trigger, rank, allocate, resample) -> rows of the batch

verl calls a worker's `_run_prompt`, which runs `_run_agent_loop` for each session, publishes each in
`_agent_loop_postprocess`, and marks the prompt finished when all sessions have returned. Ours keeps that order, but a
session hands its scored output to the group instead of publishing, and returns when the last one has published for all.
"""

import asyncio
import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import ray
import torch
from tensordict import TensorDict
from verl.experimental.agent_loop import AgentLoopOutput
from verl.trainer.ppo.v1 import AgentLoopManagerTQ, AgentLoopWorkerTQ

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.step import Resampled, explore
from verl_axpo.core.trigger import is_triggered, subgroup
from verl_axpo.core.types import Candidate, Kind, Rollout, Row, Status, usable
from verl_axpo.integration import agent_loop
from verl_axpo.integration.coordinator import BudgetCoordinator
from verl_axpo.integration.group import GroupRun, ReadyRow, check_image_features, settled
from verl_axpo.integration.lineage import AXPO_FIELD, BatchRow, Session, publishable
from verl_axpo.integration.sampling import continuation_of, mean_entropy
from verl_axpo.integration.shared import CONTEXT, FeatureMemo, LoopContext
from verl_axpo.integration.transcript import transcribe

logger = logging.getLogger(__name__)

MAX_WAITING_GROUPS = 100_000  # groups that may wait at the barrier at once: an actor call each, nearly free
ERROR_CHARACTERS = 300  # of a session's error, as the trainer's message shows it
HOST_LOOP = "tool_agent"  # verl's own loop, which a dataset may name per sample; ours does all that it does


class AxpoAgentLoopWorker(AgentLoopWorkerTQ.__ray_metadata__.modified_class):
    """verl's TransferQueue worker (the class behind its `@ray.remote`), which explores a group before publishing it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.axpo = AxpoConfig.from_mapping(self.config.algorithm.get("axpo") or {})
        self.groups: dict[str, GroupRun] = {}
        self.coordinator: Any = None
        self.features = FeatureMemo()

    async def set_coordinator(self, coordinator: Any) -> None:
        """Called once by the manager, before any prompt."""
        self.coordinator = coordinator

    # ------------------------------ verl's three hooks, outermost first ------------------------------

    async def _run_prompt(
        self, prompt: dict[str, Any], sampling_params: dict[str, Any], trajectory: dict[str, Any], trace: bool = False
    ) -> None:
        if trajectory["validate"]:
            return await super()._run_prompt(prompt, sampling_params, trajectory, trace)
        uid = prompt["uid"]
        group = self.groups[uid] = GroupRun(size=prompt.get("__rollout_n__", self.rollout_config.n))
        try:
            await super()._run_prompt(prompt, sampling_params, trajectory, trace)
        finally:
            del self.groups[uid]
            if group.features is not None:
                group.features.close()
            if not group.reported:  # the other groups of the step must not wait for this one
                await self._allocate(group, uid, ())

    async def _run_agent_loop(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await self._run_session(*args, **kwargs)
        except Exception as error:  # verl logs it and goes on without the session
            # Not awaited: nobody could do anything about a report that fails
            told = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self.coordinator.failed.remote(told[:ERROR_CHARACTERS])
            raise

    async def _run_session(
        self,
        sampling_params: dict[str, Any],
        trajectory: dict[str, Any],
        *,
        agent_name: str,
        trace: bool = True,
        **kwargs: Any,
    ) -> Any:
        agent_name = agent_loop.LOOP_NAME if agent_name == HOST_LOOP else agent_name
        run = partial(super()._run_agent_loop, sampling_params, trajectory, agent_name=agent_name, trace=trace)
        if trajectory["validate"]:
            return await run(**kwargs)
        group = self.groups[kwargs["uid"]]
        try:
            context = LoopContext(shared=group.shared)
            group.sessions[kwargs["session_id"]] = await run(**kwargs, **{CONTEXT: context})
        finally:
            group.settled += 1
            if group.settled == group.size:
                await self._finish(group, kwargs["uid"], run)
        await group.published.wait()

    async def _agent_loop_postprocess(
        self, output: AgentLoopOutput | list[AgentLoopOutput], validate: bool, **kwargs: Any
    ) -> Session | None:
        """Score, and hand back instead of publishing. Validation publishes at once: AXPO never resamples there."""
        context: LoopContext = kwargs.pop(CONTEXT, None) or LoopContext()
        if isinstance(output, list) or AXPO_FIELD not in output.extra_fields:
            if validate:
                return await super()._agent_loop_postprocess(output, validate, **kwargs)
            raise ValueError(
                f"AXPO: got an agent loop without an AXPO episode, expected {agent_loop.LOOP_NAME} or a subclass; "
                f"set actor_rollout_ref.rollout.agent.default_agent_loop={agent_loop.LOOP_NAME} and drop other agent "
                "names from the dataset's agent_name column"
            )
        episode = output.extra_fields.pop(AXPO_FIELD)
        if not validate:
            self.groups[kwargs["uid"]].keep_features(self.features, output, episode)
        # What cannot become a row fails here, where it costs a session or a prefix, not while its group is published.
        # verl's scoring computes the row's features and positions; a loop that scores itself goes past it
        if output.reward_score is not None and not validate:
            self._compute_row(output)
        await self._compute_score([output], kwargs=kwargs)
        session = Session(output=output, kwargs=kwargs, episode=episode, resume=context.resume)
        # verl's own validation reports what stands here beside the score
        info = output.extra_fields.setdefault("reward_extra_info", {})
        info["uses_tool"] = float(episode.prefix_len is not None)
        info["infra_failure"] = float(session.status is Status.INFRA_FAILURE)
        if validate:  # verl draws the uid anew each time: this pairs the question with that of another training
            info["question"] = f"{kwargs.get('data_source')}/{kwargs.get('index')}"
        return await super()._agent_loop_postprocess(output, validate, **kwargs) if validate else session

    def _compute_multi_modal_inputs(self, output: AgentLoopOutput, input_ids: Any) -> dict[str, Any]:
        """verl's, once for the rows that have the question's images only, and checked: features that do not match the
        image tokens never leave.
        """
        compute = partial(super()._compute_multi_modal_inputs, output, input_ids)
        media = output.multi_modal_data or {}
        only_images = media.get("images") and not media.get("videos") and not media.get("audios")
        inputs: dict[str, Any] = self.features(media["images"], compute) if only_images else compute()
        check_image_features(self.processor, inputs, input_ids)
        return inputs

    def _compute_row(self, output: AgentLoopOutput) -> None:
        """Raises whatever publishing would raise about the row's images and positions."""
        input_ids = torch.tensor([*output.prompt_ids, *output.response_ids])
        inputs = self._compute_multi_modal_inputs(output, input_ids)
        self._compute_position_ids(input_ids.unsqueeze(0), torch.ones_like(input_ids).unsqueeze(0), inputs)

    # ------------------------------ a settled group ------------------------------

    async def _finish(self, group: GroupRun, uid: str, run: Any) -> None:
        """Explore the group if all of it is there, then publish what there is."""
        resampled: tuple[Resampled, ...] = ()
        try:
            if len(group.sessions) == group.size:
                await self._measure_entropies(group, uid)
                resampled = await explore(
                    group.as_rollouts(uid),
                    self.axpo,
                    allocate=partial(self._allocate, group),
                    resample=partial(self._resample, group, run),
                )
            await self._publish(group, resampled)
        finally:
            group.published.set()

    async def _allocate(self, group: GroupRun, uid: str, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        group.reported = True
        return tuple(await self.coordinator.allocate.remote(uid, candidates))

    async def _resample(self, group: GroupRun, run: Any, candidate: Candidate) -> list[Rollout]:
        """K scored continuations of a candidate; raises if any of them does, which drops the candidate."""
        source, count = group.sessions[candidate.session], self.axpo.num_continuations
        context = LoopContext(resume=continuation_of(source, self.axpo), shared=group.shared)
        # Session ids behind the ordinary ones, a function of source and k alone: keys and seeds do not depend on timing
        first = group.size + candidate.session * count
        sessions = await settled(
            run(**{**source.kwargs, "session_id": first + k, CONTEXT: context}) for k in range(count)
        )
        # All that can fail about their rows fails here, where it costs the prefix; publishing is for the whole group
        group.continuations[candidate.session] = await settled(
            self._ready(session, candidate.session) for session in sessions
        )
        return [session.as_rollout() for session in sessions]

    async def _measure_entropies(self, group: GroupRun, uid: str) -> None:
        """Those of the candidates and no others: each costs the server a pass over the context."""
        rollouts = group.as_rollouts(uid)
        if self.axpo.uncertainty != "entropy" or not is_triggered(rollouts, self.axpo):
            return
        candidates = [group.sessions[rollout.session] for rollout in subgroup(rollouts, self.axpo)]
        entropies = await settled(mean_entropy(self.llm_client, candidate) for candidate in candidates)
        for candidate, entropy in zip(candidates, entropies, strict=True):
            group.sessions[candidate.session_id] = replace(candidate, entropy=entropy)

    async def _publish(self, group: GroupRun, resampled: Sequence[Resampled]) -> None:
        selected = {one.candidate.session for one in resampled}
        extra = [self._put(row) for source in selected for row in group.continuations[source]]
        await settled([*(self._publish_rollout(one, selected) for one in group.sessions.values()), *extra])

    async def _publish_rollout(self, session: Session, selected: Collection[int]) -> None:
        await self._put(await self._ready(session, selected=session.session_id in selected))

    async def _ready(self, session: Session, source: int | None = None, *, selected: bool = False) -> ReadyRow:
        """The row of an ordinary rollout, or of a continuation of session `source`."""
        rollout = session.as_rollout()
        row = Row(
            uid=session.kwargs["uid"],
            session=session.session_id,
            reward=rollout.reward,
            kind=Kind.ROLLOUT if source is None else Kind.RESAMPLE,
            source_session=source,
            status=rollout.status,
            selected=selected,
        )
        output = publishable(session, row, self.axpo)
        batch_row = BatchRow(
            row=row,
            rollout=rollout,
            episode=session.episode,
            grpo_tokens=sum(session.output.response_mask) if source is None and usable([rollout]) else 0,
            response_len=len(session.output.response_ids),
            transcript=await transcribe(session, output, self.tokenizer, self.axpo.trace_dir),
        )
        return ReadyRow(output=output, kwargs=session.kwargs, row=batch_row)

    async def _put(self, ready: ReadyRow) -> None:
        await super()._agent_loop_postprocess(ready.output, False, **ready.kwargs, **{AXPO_FIELD: ready.row.pack()})


class AxpoAgentLoopManager(AgentLoopManagerTQ):
    """verl's manager with our workers and one coordinator (`rollout.agent.agent_loop_manager_class`)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(AxpoAgentLoopWorker)
        config = AxpoConfig.from_mapping(self.config.algorithm.get("axpo") or {})
        actor = ray.remote(BudgetCoordinator).options(max_concurrency=MAX_WAITING_GROUPS)
        self.coordinator = actor.remote(config, self.rollout_config.n)

    async def _init_agent_loop_workers(self) -> None:
        await super()._init_agent_loop_workers()
        await asyncio.gather(*(one.set_coordinator.remote(self.coordinator) for one in self.agent_loop_workers))

    def generate_sequences(self, prompts: TensorDict) -> None:
        """Open the budget of these prompts, then dispatch them as verl does."""
        if "validate" not in prompts:
            ray.get(self.coordinator.begin.remote([str(uid) for uid in prompts["uid"]]))
        super().generate_sequences(prompts)
