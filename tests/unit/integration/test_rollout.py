"""A group from settled sessions to published rows; verl's own methods are replaced by ones that record their calls."""

import asyncio
import gc
import math
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from verl.experimental.agent_loop import AgentLoopOutput
from verl.trainer.ppo.v1 import agent_loop_tq
from verl.workers.rollout.replica import TokenOutput

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Candidate, Status
from verl_axpo.integration import worker as workers
from verl_axpo.integration.batch_row import AXPO_FIELD, BatchRow
from verl_axpo.integration.coordinator import Decisions
from verl_axpo.integration.features import FeatureCache, FeaturesWorker, check_image_features
from verl_axpo.integration.group import RunningGroup
from verl_axpo.integration.rollout_trace import TracedQuestions
from verl_axpo.integration.shared import LoopContext, loop_context
from verl_axpo.integration.speculation import NotWanted, TalliedClient, Tally
from verl_axpo.integration.trajectory import Trajectory
from verl_axpo.integration.worker import AxpoAgentLoopWorker

N, K = 4, 2
HOST = FeaturesWorker.__mro__[1]
MakeTrajectory = Callable[..., Trajectory]


class Harness:
    """A worker whose sessions are given by `outcome(session_id, context)`: a trajectory, or an exception to raise.

    Sessions end, and are published, in the order of their ids; publishing one of `unpublishable` raises.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        outcome: Callable[[int, LoopContext], Any],
        unpublishable: tuple[int, ...] = (),
    ) -> None:
        self.published: dict[int, tuple[Any, BatchRow]] = {}
        self.features: dict[int, tuple[Any, ...]] = {}  # by session id
        self.told: list[str] = []  # errors of sessions
        self.reports: list[tuple[Candidate, ...]] = []
        self.ran: list[int] = []
        self.ended: list[int] = []
        self.log: list[int | str] = []  # sessions as they are published, and when verl would mark the group as over
        worker = self.worker = AxpoAgentLoopWorker.__new__(AxpoAgentLoopWorker)
        worker.axpo = AxpoConfig(num_continuations=K)
        worker.groups, worker.tokenizer, worker.processor = {}, None, None
        worker.features, worker.asynchronous, worker.traced = FeatureCache(), False, TracedQuestions()
        self.processed: list[list[Any]] = []  # the images that verl's processor was given
        worker.rollout_config = OmegaConf.create({"n": N})
        worker.coordinator = SimpleNamespace(
            allocate=SimpleNamespace(remote=self._allocate), failed=SimpleNamespace(remote=self.told.append)
        )

        async def run_agent_loop(_: Any, *args: Any, **kwargs: Any) -> Trajectory:
            self.ran.append(kwargs["session_id"])
            result = outcome(kwargs["session_id"], loop_context() or LoopContext())
            await asyncio.sleep(0.001 * kwargs["session_id"])
            self.ended.append(kwargs["session_id"])
            if isinstance(result, Exception):
                raise result
            worker.groups["q"].keep_features(worker.features, result)  # as scoring it does
            return result

        async def publish(_: Any, output: Any, validate: bool, **kwargs: Any) -> None:
            at = kwargs["session_id"]
            if at in unpublishable:
                raise OSError(f"no room for {at}")
            await asyncio.sleep(0.001 * at)
            self.features[at] = self.worker._compute_multi_modal_inputs(output, None)["pixels"]
            self.published[at] = output, BatchRow.unpack(kwargs[AXPO_FIELD])
            self.log.append(at)

        def process(_: Any, output: Any, input_ids: Any) -> dict[str, Any]:
            images = output.multi_modal_data["images"]
            self.processed.append(images)
            return {"pixels": tuple(images)}

        async def run_prompt(this: Any, prompt: Any, params: Any, trajectory: Any, trace: bool = False) -> None:
            sessions = (
                this._run_agent_loop(params, trajectory, agent_name="tool_agent", uid="q", session_id=at)
                for at in range(N)
            )
            self.errors = [
                error for error in await asyncio.gather(*sessions, return_exceptions=True) if error is not None
            ]
            self.log.append("over")
            await asyncio.sleep(0.05)

        monkeypatch.setattr(HOST, "_run_agent_loop", run_agent_loop)
        monkeypatch.setattr(HOST, "_agent_loop_postprocess", publish)
        monkeypatch.setattr(HOST, "_compute_multi_modal_inputs", process)
        monkeypatch.setattr(HOST, "_run_prompt", run_prompt)

    async def _allocate(self, uid: str, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        self.reports.append(tuple(candidates))
        return tuple(candidates)[:1]

    def run(self) -> "Harness":
        asyncio.run(self.worker._run_prompt({"uid": "q"}, {}, {"validate": False}))
        return self

    def rows(self) -> dict[int, tuple[int | None, bool]]:
        """(source, selected) by session."""
        return {at: (row.rollout.source, row.selected) for at, (_, row) in sorted(self.published.items())}


def given(context: LoopContext) -> dict[str, int]:
    """The prefix that a continuation starts from."""
    return {"given": len(context.prefix.token_ids) if context.prefix else 0}


def resampled_group(trajectory: MakeTrajectory, at: int, context: LoopContext) -> Trajectory:
    """Four failed tool calls, of which session 0, the least confident, is resampled as sessions 4 and 5."""
    return trajectory(at, confidence=0.5 + at, **given(context))


def test_a_failed_subgroup_is_resampled_and_published_with_its_continuations(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory
) -> None:
    def outcome(at: int, context: LoopContext) -> Trajectory:
        # 0 and 1 call a tool and fail, 1 with less confidence; 2 and 3 answer, 3 rightly; one continuation succeeds
        if at >= N:
            return trajectory(at, reward=float(at == N + 1 * K), **given(context))
        tool = {} if at < 2 else {"prefix_len": None, "tool_call_span": None, "confidence": None}
        return trajectory(at, reward=float(at == 3), **tool | ({"confidence": 0.4 - 0.1 * at} if at < 2 else {}))

    harness = Harness(monkeypatch, outcome).run()
    assert [[candidate.session for candidate in report] for report in harness.reports] == [[1, 0]]
    assert harness.rows() == {
        0: (None, False), 1: (None, True), 2: (None, False), 3: (None, False),
        6: (1, False), 7: (1, False),  # N + source * K + k
    }  # fmt: skip
    assert harness.published[1][0].response_ids == [1, 2, 3]  # cut at its prefix
    assert harness.published[6][0].response_mask[:3] == [0, 0, 0]
    assert harness.published[1][1].grpo_tokens == 7
    assert harness.worker.groups == {}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_rows_carry_the_decisions_where_the_coordinator_may_have_forgotten_them(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory, asynchronous: bool
) -> None:
    harness = Harness(monkeypatch, partial(resampled_group, trajectory))
    harness.worker.asynchronous = asynchronous

    async def decide(uid: str, candidates: tuple[Candidate, ...]) -> Decisions:
        return Decisions(ranked={uid: candidates}, selected={uid: candidates[:1]})

    harness.worker.coordinator.decide = SimpleNamespace(remote=decide)
    harness.run()
    assert harness.rows()[0] == (None, True)
    decisions = {at: row.decisions for at, (_, row) in harness.published.items()}
    told = [decisions[at] for at in range(N)]
    assert all(decisions[at] is None for at in range(N, N + K))  # the rows of its rollouts are enough
    assert all(told) if asynchronous else not any(told)
    if told[0] is not None:
        assert [candidate.session for candidate in told[0].ranked["q"]] == [0, 1, 2, 3]
        assert [candidate.session for candidate in told[0].selected["q"]] == [0]


def test_a_failed_resample_leaves_the_group_as_grpo_would_have_it(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory
) -> None:
    def outcome(at: int, context: LoopContext) -> Any:
        return OSError("server gone") if at == N + 1 else resampled_group(trajectory, at, context)

    harness = Harness(monkeypatch, outcome).run()
    assert harness.ran[N:] == [4, 5]  # resampling was tried
    assert harness.rows() == dict.fromkeys(range(N), (None, False))
    assert all(output.response_ids == [1, 2, 3, 4, 5, 60, 7, 8] for output, _ in harness.published.values())
    assert harness.errors == []


def test_a_continuation_does_not_go_on_after_its_group(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory
) -> None:
    """The first continuation fails at once, the second takes longer; the servers may be asleep when it ends."""

    def outcome(at: int, context: LoopContext) -> Any:
        return OSError("server gone") if at == N else resampled_group(trajectory, at, context)

    harness = Harness(monkeypatch, outcome)
    host, ended_before = HOST._agent_loop_postprocess, []

    async def publish(this: Any, *args: Any, **kwargs: Any) -> None:
        ended_before.append(sorted(harness.ended))
        await host(this, *args, **kwargs)

    monkeypatch.setattr(HOST, "_agent_loop_postprocess", publish)
    harness.run()
    assert ended_before == [[0, 1, 2, 3, 4, 5]] * N


def test_a_continuation_whose_row_cannot_be_made_is_a_failed_resample(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory
) -> None:
    """Invariant 7: here its picture cannot be stored for the trace."""

    original = workers.batch_row

    async def batch_row(made: Trajectory, *args: Any, **kwargs: Any) -> BatchRow:
        if made.session == N + 1:
            raise OSError("cannot write this picture")
        return await original(made, *args, **kwargs)

    monkeypatch.setattr(workers, "batch_row", batch_row)
    harness = Harness(monkeypatch, partial(resampled_group, trajectory)).run()
    assert harness.rows() == dict.fromkeys(range(N), (None, False))
    assert all(output.response_ids == [1, 2, 3, 4, 5, 60, 7, 8] for output, _ in harness.published.values())
    assert harness.errors == []


@pytest.mark.parametrize("lost", [0, N])
def test_a_row_that_is_not_taken_fails_its_group_when_all_others_are_in(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory, lost: int
) -> None:
    """verl samples a group once it is marked; a row that came later would be neither trained nor cleared."""
    harness = Harness(monkeypatch, partial(resampled_group, trajectory), unpublishable=(lost,)).run()
    assert harness.log == [*sorted({0, 1, 2, 3, 4, 5} - {lost}), "over"]
    assert [str(error) for error in harness.errors] == [f"no room for {lost}"]


def test_a_group_with_a_failed_session_is_not_resampled_and_nobody_waits(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory
) -> None:
    def outcome(at: int, context: LoopContext) -> Any:
        return RuntimeError("bad session") if at == 2 else trajectory(at)

    harness = Harness(monkeypatch, outcome).run()
    assert harness.reports == [()]
    assert sorted(harness.published) == [0, 1, 3]
    assert [str(error) for error in harness.errors] == ["bad session"]


def test_a_correct_tool_call_means_no_resampling(monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory) -> None:
    harness = Harness(monkeypatch, lambda at, context: trajectory(at, reward=float(at == 0))).run()
    assert harness.reports == [()]
    assert harness.ran == [0, 1, 2, 3]


SPECULATES = AxpoConfig(num_continuations=K, speculate=True)


class SpeculativeHarness(Harness):
    """Sessions end 20 ms apart, so that continuations end between them, and no continuation waits for another turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, outcome: Any, *, places: bool = True) -> None:
        async def slowed(*args: Any, **kwargs: Any) -> Any:
            if kwargs["session_id"] < N:
                await asyncio.sleep(0.02 * kwargs["session_id"])
            if (tally := (loop_context() or LoopContext()).tally) is not None:
                tally.tokens += 5
            return await run_agent_loop(*args, **kwargs)

        super().__init__(monkeypatch, outcome)
        run_agent_loop = HOST._run_agent_loop
        monkeypatch.setattr(HOST, "_run_agent_loop", slowed)
        self.worker.axpo, self.ended_speculations = SPECULATES, []

        async def may(uid: str) -> bool:
            return places

        coordinator = self.worker.coordinator
        coordinator.may_speculate = SimpleNamespace(remote=may)
        coordinator.end_speculation = SimpleNamespace(remote=self.ended_speculations.append)

    @property
    def wasted(self) -> int:
        return sum(row.wasted for _, row in self.published.values())


def least_confident(trajectory: MakeTrajectory, source: int, *, solved: int | None = None) -> Callable[..., Any]:
    """Failed tool calls, of which `source` is the least confident; `solved` is right."""

    def outcome(at: int, context: LoopContext) -> Trajectory:
        confidence = 0.1 if at == source else 0.5 + 0.1 * (at % N)
        return trajectory(at, reward=float(at == solved), confidence=confidence, **given(context))

    return outcome


def test_a_speculated_prefix_that_is_selected_is_used_as_it_is(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory
) -> None:
    harness = SpeculativeHarness(monkeypatch, least_confident(trajectory, 1)).run()
    # Half of the group has ended with session 1; continuations N + 1 * K + k begin before 2 and 3 end
    assert harness.ended == [0, 1, 6, 7, 2, 3]
    assert harness.ran.count(6) == 1
    plain = Harness(monkeypatch, least_confident(trajectory, 1)).run()
    assert harness.rows() == plain.rows()
    assert harness.wasted == 0


@pytest.mark.parametrize(("source", "solved", "used"), [(3, None, [10, 11]), (1, 2, [])])
def test_a_speculated_prefix_that_is_not_selected_is_thrown_away_and_counted(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory, source: int, solved: int | None, used: list[int]
) -> None:
    """A later session is less confident, or right, which means no trigger."""
    harness = SpeculativeHarness(monkeypatch, least_confident(trajectory, source, solved=solved)).run()
    begun = [at for at in harness.ran if at >= N and at not in used]
    assert len(begun) == K
    assert [at for at in harness.rows() if at >= N] == used
    assert harness.wasted == 5 * K
    assert "q" in harness.ended_speculations


def test_without_a_place_in_the_budget_nothing_is_speculated(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory
) -> None:
    harness = SpeculativeHarness(monkeypatch, least_confident(trajectory, 1), places=False).run()
    assert harness.ended == [0, 1, 2, 3, 6, 7]
    assert harness.wasted == 0


async def test_a_speculation_that_is_not_wanted_begins_no_further_turn() -> None:
    class Server:
        async def generate(self, request_id: str, *, prompt_ids: list[int], **_: Any) -> TokenOutput:
            return TokenOutput(token_ids=[1, 2, 3], log_probs=None)

    tally = Tally()
    client = TalliedClient(Server(), tally)
    await client.generate("r", prompt_ids=[1])
    assert tally.tokens == 3
    tally.wanted = False
    with pytest.raises(NotWanted):
        await client.generate("r", prompt_ids=[1])
    assert tally.tokens == 3


@pytest.mark.parametrize(("solved", "scored"), [(None, {0, 1}), (0, set()), (3, {0, 1})])
def test_only_the_candidates_of_a_triggered_group_are_scored(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory, solved: int | None, scored: set[int]
) -> None:
    """Sessions 0 and 1 call a tool, 2 and 3 answer; a scoring request costs a pass over the whole context."""
    asked: list[str] = []

    class Client:
        async def generate(self, request_id: str, *, prompt_ids: list[int], **_: Any) -> TokenOutput:
            asked.append(request_id)
            fields = {"prompt_logprobs": [[math.log(0.5)] * 2] * len(prompt_ids)}
            return TokenOutput(token_ids=[1], log_probs=None, extra_fields=fields)

    def outcome(at: int, context: LoopContext) -> Trajectory:
        tool = {} if at < 2 or at >= N else {"prefix_len": None, "tool_call_span": None, "confidence": None}
        return trajectory(at, reward=float(at == solved), **given(context), **tool, request_id=str(at))

    harness = Harness(monkeypatch, outcome)
    harness.worker.axpo = AxpoConfig(num_continuations=K, uncertainty="entropy")
    harness.worker.llm_client = Client()
    harness.run()
    assert sorted(asked) == [str(at) for at in sorted(scored)]
    entropies = {at: row.rollout.entropy for at, (_, row) in harness.published.items() if at < N}
    assert entropies == {at: pytest.approx(math.log(2)) if at in scored else None for at in range(N)}
    assert harness.errors == []


def test_a_scoring_request_that_fails_costs_no_group(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory
) -> None:
    class Client:
        async def generate(self, *_: Any, **__: Any) -> TokenOutput:
            raise OSError("server gone")

    harness = Harness(monkeypatch, partial(resampled_group, trajectory))
    harness.worker.axpo = AxpoConfig(num_continuations=K, uncertainty="entropy")
    harness.worker.llm_client = Client()
    harness.run()
    assert harness.errors == []
    # the mean surprise of the call's two tokens, sampled with log-probabilities -0.4 and -0.5
    assert harness.published[1][1].rollout.entropy == pytest.approx(0.45)


def test_an_infra_failure_counts_no_token(monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory) -> None:
    def outcome(at: int, context: LoopContext) -> Trajectory:
        return trajectory(at, reward=1.0, status=Status.INFRA_FAILURE if at == 2 else Status.OK)

    harness = Harness(monkeypatch, outcome).run()
    assert [row.grpo_tokens for _, (_, row) in sorted(harness.published.items())] == [7, 7, 0, 7]


def test_each_continuation_starts_from_the_prefix_of_its_own_source(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory
) -> None:
    """Invariant 2: two sources of a group are resampled at the same time, by tasks that are told in turn."""
    prefixes: dict[int, tuple[int, ...] | None] = {}

    async def allocate(uid: str, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        return candidates[:2]

    def outcome(at: int, context: LoopContext) -> Trajectory:
        prefixes[at] = context.prefix.token_ids if context.prefix else None
        return trajectory(
            at, confidence=0.5 + at, prefix_len=3 - at % 2, tool_call_span=(3 - at % 2, 5), **given(context)
        )

    harness = Harness(monkeypatch, outcome)
    harness.worker.coordinator.allocate.remote = allocate
    harness.run()
    sources = {4: (1, 2, 3), 5: (1, 2, 3), 6: (1, 2), 7: (1, 2)}  # of sessions 0 and 1
    assert prefixes == dict.fromkeys(range(N), None) | sources
    masks = {at: harness.published[at][0].response_mask for at in sources}
    assert {at: mask.index(1) for at, mask in masks.items()} == {4: 3, 5: 3, 6: 2, 7: 2}
    assert loop_context() is None


def test_all_sessions_of_a_question_share_one_memo(monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory) -> None:
    seen: list[Any] = []

    def outcome(at: int, context: LoopContext) -> Trajectory:
        seen.append(context.shared)
        return trajectory(at, **given(context))

    Harness(monkeypatch, outcome).run()
    assert len(seen) == N + K
    assert len({id(shared) for shared in seen}) == 1


def test_the_question_s_images_are_processed_once_and_a_tool_s_with_their_row(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory
) -> None:
    prompt = "prompt image"  # the one object that all sessions load

    def outcome(at: int, context: LoopContext) -> Trajectory:
        made = trajectory(at, confidence=0.5 + at, **given(context))
        # 0 and 1 have a crop of their own, 2 and 3 none; of the continuations of 0 one has
        images = [prompt, f"crop {at}"] if at in (0, 1, N) else [prompt]
        return made.model_copy(update={"multi_modal_data": {"images": images}})

    harness = Harness(monkeypatch, outcome).run()
    # 0 was selected: cut at its prefix, it has the question's image alone, as have 2, 3 and N + 1
    assert sorted(harness.processed, key=len) == [[prompt], [prompt, "crop 1"], [prompt, f"crop {N}"]]
    own = dict.fromkeys((0, 2, 3, N + 1), (prompt,))
    assert harness.features == {**own, 1: (prompt, "crop 1"), N: (prompt, f"crop {N}")}
    assert harness.worker.features.features([prompt], lambda: {"pixels": "anew"}) == {
        "pixels": "anew"
    }  # nothing was kept


@pytest.mark.parametrize("validate", [False, True])
def test_a_session_that_raises_is_reported_and_not_only_logged(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory, validate: bool
) -> None:
    def outcome(at: int, context: LoopContext) -> Any:
        return OSError("reward worker\n gone") if at == 2 else trajectory(at, **given(context))

    harness = Harness(monkeypatch, outcome)
    if validate:
        kwargs = {"uid": "q", "session_id": 2}
        with pytest.raises(OSError, match="gone"):
            asyncio.run(harness.worker._run_agent_loop({}, {"validate": True}, agent_name="tool_agent", **kwargs))
    else:
        assert sorted(harness.run().published) == [0, 1, 3]
    assert harness.told == ["OSError: reward worker gone"]


def bare_worker() -> AxpoAgentLoopWorker:
    """A worker of no run, for a text model."""
    worker = AxpoAgentLoopWorker.__new__(AxpoAgentLoopWorker)
    worker.processor, worker.tokenizer, worker.features = None, None, FeatureCache()
    return worker


def test_another_agent_loop_is_refused_with_the_line_to_change() -> None:
    worker = bare_worker()
    output = AgentLoopOutput(prompt_ids=[1], response_ids=[2], response_mask=[1], metrics={})
    with pytest.raises(ValueError, match="default_agent_loop=axpo_tool_agent"):
        asyncio.run(worker._agent_loop_postprocess(output, False, uid="q", session_id=0))


@pytest.mark.parametrize("reward", [None, 1.0])
def test_what_cannot_become_a_row_fails_its_session(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory, reward: float | None
) -> None:
    """With verl's scoring, and where the loop has scored already: one picture of 4 features, 3 tokens for it."""

    def features(*_: Any) -> dict[str, Any]:
        return {"image_grid_thw": torch.tensor([[1, 4, 4]])}

    output = trajectory(0).model_copy(update={"response_ids": [7, 9, 9, 9, 7, 7, 7, 7], "reward_score": reward})
    worker = bare_worker()
    worker.reward_loop_worker_handles = [object()]  # there is no processor to ask
    worker.groups = {"q": RunningGroup(uid="q", size=1)}
    worker.processor = SimpleNamespace(image_processor=SimpleNamespace(merge_size=2), image_token_id=9)
    monkeypatch.setattr(HOST, "_compute_multi_modal_inputs", features)
    with pytest.raises(ValueError, match="4 image features for 3 image tokens"):
        asyncio.run(worker._agent_loop_postprocess(output, False, uid="q", session_id=0))
    assert worker.groups["q"].features is not None  # kept from the first scored session on


@pytest.mark.parametrize("failed", [False, True])
def test_a_reward_that_could_not_be_computed_is_no_fault_of_the_policy(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory, failed: bool
) -> None:
    asked: list[Any] = []

    async def score(_: Any, outputs: list[Trajectory], kwargs: Any) -> None:
        asked.append(kwargs["extra_info"])
        outputs[0].extra_fields["reward_extra_info"] = {"infra_failure": float(failed)}

    monkeypatch.setattr(HOST, "_compute_score", score)
    worker, output = bare_worker(), trajectory(starts_in_think=True)
    worker.groups = {"q": RunningGroup(uid="q", size=1)}
    output.reward_score = None
    sample = {"uid": "q", "session_id": 0, "extra_info": {"index": 7}}
    scored = asyncio.run(worker._agent_loop_postprocess(output, False, **sample))
    assert scored is output
    assert asked == [{"index": 7, "starts_in_think": True}]  # the answer does not count inside open thinking
    assert output.sample == sample
    assert output.as_rollout().status is (Status.INFRA_FAILURE if failed else Status.OK)
    assert output.extra_fields["reward_extra_info"] == {"uses_tool": 1.0, "infra_failure": float(failed)}


def test_a_row_and_its_continuations_get_verls_sample_whatever_a_subclass_made_of_it(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory
) -> None:
    """A subclass may put a system message in front of `raw_prompt`; for a continuation it runs again."""
    worker = bare_worker()
    worker.groups = {"q": RunningGroup(uid="q", size=1)}
    worker.reward_loop_worker_handles = None
    given_by_verl = {"uid": "q", "session_id": 0, "raw_prompt": [{"role": "user", "content": "What?"}]}
    monkeypatch.setattr(worker, "compute_row", lambda _: None)
    output = trajectory(sample={"uid": "q", "session_id": 0, "raw_prompt": [{"role": "system", "content": "Think."}]})
    scored = asyncio.run(worker._agent_loop_postprocess(output, False, **given_by_verl))
    assert scored is not None
    assert scored.sample == given_by_verl


def test_validation_is_published_at_once_and_names_the_question_of_the_data(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory
) -> None:
    """verl draws a validation's uids anew each time, and two trainings are compared question by question."""
    put: list[Any] = []

    async def publish(_: Any, output: Any, validate: bool, **kwargs: Any) -> None:
        put.append((output, validate))

    monkeypatch.setattr(HOST, "_agent_loop_postprocess", publish)
    worker, output = bare_worker(), trajectory(reward=1.0)
    worker.reward_loop_worker_handles, worker.groups = None, {}
    sample = {"uid": "drawn", "session_id": 0, "data_source": "tiny", "index": 7}
    assert asyncio.run(worker._agent_loop_postprocess(output, True, **sample)) is None
    assert put == [(output, True)]
    assert output.extra_fields["reward_extra_info"] == {"uses_tool": 1.0, "infra_failure": 0.0, "question": "tiny/7"}


def test_what_was_imported_is_no_work_for_the_garbage_collector() -> None:
    worker = bare_worker()
    try:
        asyncio.run(worker.set_coordinator("coordinator"))
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
    assert worker.coordinator == "coordinator"


@pytest.mark.parametrize(("tokens", "fits"), [(4, True), (3, False), (5, False)])
def test_features_must_match_the_image_tokens(tokens: int, fits: bool) -> None:
    processor = SimpleNamespace(image_processor=SimpleNamespace(merge_size=2), image_token_id=9)
    inputs = {"image_grid_thw": torch.tensor([[1, 4, 4]])}  # 16 patches, merged 2 x 2: 4 features
    ids = torch.tensor([1, *[9] * tokens, 2])
    if fits:
        check_image_features(processor, inputs, ids)
    else:
        with pytest.raises(ValueError, match=f"4 image features for {tokens} image tokens"):
            check_image_features(processor, inputs, ids)


def test_verls_batch_gets_the_trained_part_its_sample_and_our_field(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory
) -> None:
    """Through verl's own publishing, of which the queue alone is replaced."""
    put: dict[str, Any] = {}

    async def keep(**what: Any) -> None:
        put.update(what)

    monkeypatch.setattr(agent_loop_tq.tq, "async_kv_batch_put", keep)
    worker = bare_worker()
    worker.axpo = AxpoConfig()
    worker.distillation_enabled, worker.reward_loop_worker_handles = False, None
    source = trajectory(3, reward=1.0).model_copy(update={"multi_modal_data": None})

    async def publish() -> None:
        await worker._put(await worker._row(source, selected=True))

    asyncio.run(publish())
    row = put["fields"][0]
    assert put["keys"] == ["q_3_0"]
    assert (row["responses"].tolist(), row["response_mask"].tolist()) == ([1, 2, 3], [1, 1, 1])
    assert (row["uid"], row["session_id"], row["rm_scores"].tolist()) == ("q", 3, [0.0, 0.0, 1.0])
    assert BatchRow.unpack(row[AXPO_FIELD]).grpo_tokens == 7
    assert not set(row.keys()) & {"sample", "status", "tool_calls", "turn_lengths", "given"}


def test_a_continuation_is_traced_under_its_source_and_with_its_number(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory
) -> None:
    span: ContextVar[int] = ContextVar("span", default=-1)
    under: dict[int, int] = {}

    def outcome(at: int, context: LoopContext) -> Trajectory:
        under[at] = span.get()
        span.set(at)
        return resampled_group(trajectory, at, context).model_copy(update={"spans": copy_context()})

    numbers: dict[int, int] = {}
    harness = Harness(monkeypatch, outcome)
    run_agent_loop = HOST._run_agent_loop

    async def numbered(this: Any, params: Any, trajectory: Any, **kwargs: Any) -> Trajectory:
        numbers[kwargs["session_id"]] = trajectory["rollout_n"]
        return await run_agent_loop(this, params, trajectory, **kwargs)

    monkeypatch.setattr(HOST, "_run_agent_loop", numbered)
    harness.run()
    assert harness.errors == []
    assert under == {0: -1, 1: -1, 2: -1, 3: -1, 4: 0, 5: 0}  # session 0 is the source
    assert numbers == {0: 0, 1: 1, 2: 2, 3: 3, 4: 0, 5: 0}
