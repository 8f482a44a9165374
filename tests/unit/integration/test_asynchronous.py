"""Groups trained later than they were sampled: decisions in their rows, weight versions, steps of several batches."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
import torch
from omegaconf import OmegaConf
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import PPOTrainer, PPOTrainerColocateAsync
from verl.workers.rollout.llm_server import FullyAsyncLLMServerClient, LLMServerClient
from verl.workers.rollout.replica import TokenOutput

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Candidate
from verl_axpo.integration import batch_row as batch_row_module
from verl_axpo.integration import entropy, modes
from verl_axpo.integration import trainer as trainer_module
from verl_axpo.integration.batch_row import AXPO_FIELD, batch_row
from verl_axpo.integration.coordinator import BudgetCoordinator, Decisions
from verl_axpo.integration.estimator import compute_axpo_advantage
from verl_axpo.integration.lost import RolloutsLostError
from verl_axpo.integration.step_report import joined
from verl_axpo.integration.trainer import AxpoTrainerColocateAsync
from verl_axpo.integration.trajectory import Trajectory, prefix_of
from verl_axpo.integration.turn_client import Prefix, TurnClient
from verl_axpo.trace import TraceWriter, iter_records
from verl_axpo.trace.metrics import version_metrics
from verl_axpo.trace.reader import read_summary

MakeTrajectory = Callable[..., Trajectory]
N = 2


class Words:
    """A tokenizer with a template that opens thinking."""

    def decode(self, ids: list[int]) -> str:
        return "..."

    def convert_tokens_to_ids(self, tag: str) -> int:
        return 7

    def apply_chat_template(self, *_: Any, **__: Any) -> str:
        return "<think>\n"


TOKENIZER = Words()


def candidate(uid: str, session: int = 0, score: float = 0.5) -> Candidate:
    return Candidate(uid=uid, session=session, score=score)


def test_each_mode_of_verl_has_a_name_of_ours_and_back() -> None:
    assert [modes.host(modes.ours(mode)) for mode in modes.MODES] == list(modes.MODES)
    named = [*modes.MODES, *map(modes.ours, modes.MODES)]
    configs = [OmegaConf.create({"trainer": {"v1": {"trainer_mode": mode}}}) for mode in named]
    assert list(map(modes.is_asynchronous, configs)) == [False, True, True] * 2


# ------------------------------ decisions ------------------------------


def test_a_decision_is_reported_at_once_for_its_round_may_be_forgotten() -> None:
    async def scenario() -> tuple[Decisions, Decisions]:
        coordinator = BudgetCoordinator(AxpoConfig(), 8)
        await coordinator.begin(["a", "b"])  # floor(0.25 * 2 * 8 / 4) = 1 prefix
        told = asyncio.gather(coordinator.decide("a", (candidate("a"),)), coordinator.decide("b", ()))
        of_a, of_b = await told
        await coordinator.begin(["c"])
        return joined([of_a, of_b, of_a]), await coordinator.decisions(["a", "b"])

    told, later = asyncio.run(scenario())
    assert told.ranked == told.selected == {"a": (candidate("a"),), "b": ()}
    assert later.ranked == {}


def trainer(
    monkeypatch: pytest.MonkeyPatch, batches: list[list[str]], errors: Counter[str]
) -> AxpoTrainerColocateAsync:
    """Of 2 questions a step, in as many batches as there are; `errors` are those that sessions raised."""
    waiting = iter(batches)

    def sample(global_steps: int, partition_id: str, batch_size: int) -> tuple[KVBatchMeta, dict[str, Any]]:
        keys = next(waiting)
        return KVBatchMeta(partition_id=partition_id, keys=keys, tags=[{} for _ in keys]), {}

    buffer = SimpleNamespace(sample=sample, failure_keys={"train": set()})
    monkeypatch.setattr(PPOTrainer, "_build_replay_buffer", lambda self: buffer)
    monkeypatch.setattr(PPOTrainer, "_add_prompts_to_generate", lambda self, number: number)
    monkeypatch.setattr(ray, "get", lambda told: told)
    ours = AxpoTrainerColocateAsync.__new__(AxpoTrainerColocateAsync)
    ours.logger = SimpleNamespace(logger={})  # verl's `Tracking`, with no logger in it
    ours.num_rollouts, ours.axpo, ours.global_steps = N, AxpoConfig(num_continuations=2), 3
    ours.parameter_sync_step, ours.has_extra_rows, ours.expected = len(batches), False, 0
    ours.config = OmegaConf.create({"algorithm": {"axpo": {"num_continuations": 2}}, "data": {"train_batch_size": 2}})
    ours.config.actor_rollout_ref = {"actor": {"loss_agg_mode": "token-mean"}}
    coordinator = SimpleNamespace(take_errors=SimpleNamespace(remote=lambda: errors))
    ours.agent_loop_manager, ours.tokenizer, ours.processor = SimpleNamespace(coordinator=coordinator), TOKENIZER, None
    ours._begin_step()
    ours.replay_buffer = ours._build_replay_buffer()
    return ours


def test_a_step_of_several_batches_has_one_trace_of_the_sampled_questions(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory, tmp_path: Path
) -> None:
    """Two batches of a question each, which were submitted in other steps and decided on long ago."""
    ours = trainer(monkeypatch, [["late_0_0", "late_1_0"], ["early_0_0", "early_1_0"]], Counter())
    fields: dict[str, bytes] = {}
    for uid in ("late", "early"):
        decisions = Decisions(ranked={uid: (candidate(uid),)}, selected={uid: ()})
        for session in range(N):
            of_step = trajectory(session, reward=float(session), weight_versions=(1, 2))
            sample = {**of_step.sample, "uid": uid}
            whole = of_step.model_copy(update={"sample": sample, "multi_modal_data": None})
            known: dict[str, Any] = {"source": None, "selected": False, "trace_dir": str(tmp_path)}
            row = asyncio.run(batch_row(whole, whole, tokenizer=TOKENIZER, decisions=decisions, **known))
            fields[f"{uid}_{session}_0"] = row.pack()
    queue = SimpleNamespace(kv_batch_get=lambda keys, **_: {AXPO_FIELD: [fields[key] for key in keys]})
    monkeypatch.setattr(batch_row_module, "tq", queue)
    monkeypatch.setattr(trainer_module, "read_entropies", lambda batch, rows, computed: [None for _ in rows])

    def compute_advantage(self: PPOTrainer, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        rewards = torch.tensor([[0.0], [1.0]])
        uids = np.array([key.split("_")[0] for key in batch.keys], dtype=object)
        compute_axpo_advantage(rewards, torch.ones_like(rewards), uids, self.config.algorithm)
        return batch

    monkeypatch.setattr(PPOTrainerColocateAsync, "_compute_advantage", compute_advantage)
    with TraceWriter(tmp_path) as ours.trace:
        for ours.local_trigger_step in range(2):
            batch, _ = ours.replay_buffer.sample(global_steps=3, partition_id="train", batch_size=1)
            assert not (tmp_path / "step_000003.jsonl").exists()
            ours._compute_advantage(batch, {})
    summary, defects = read_summary(tmp_path, 3)
    assert summary is not None
    assert not defects
    assert list(summary.questions) == ["late", "early"]
    assert list(summary.candidates) == [candidate("late"), candidate("early")]
    assert summary.metrics["axpo/mixed_version_prefixes"] == 0
    records = list(iter_records(tmp_path, 3, []))
    assert [(record.uid, record.session) for record in records] == [
        ("late", 0), ("late", 1), ("early", 0), ("early", 1)
    ]  # fmt: skip
    assert {(record.step, record.weight_versions, record.entropy) for record in records} == {(3, (1, 2), None)}


def test_a_service_that_is_down_ends_the_run_instead_of_failing_replacements_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors: Counter[str] = Counter()
    ours = trainer(monkeypatch, [], errors)
    assert ours._add_prompts_to_generate(2) == 2
    errors["OSError: gone"] = 1  # of 2 x 2 rollouts, more than 0.2
    with pytest.raises(RolloutsLostError, match=r"step 3: 1 of 4 rollouts were lost.*1 x OSError: gone"):
        ours._add_prompts_to_generate(1)


# ------------------------------ weights ------------------------------


class Server:
    """Answers with the weights of `versions`, one after the other."""

    def __init__(self, *versions: tuple[int, int]) -> None:
        self.versions = list(versions)

    async def generate(self, request_id: str, **_: Any) -> TokenOutput:
        oldest, newest = self.versions.pop(0)
        fields = {"min_global_steps": oldest, "max_global_steps": newest}
        return TokenOutput(token_ids=[4], log_probs=[-0.5], extra_fields=fields)


def test_a_continuations_row_is_as_old_as_its_source_and_its_own_weights_are_reported() -> None:
    prefix = Prefix(request_id="source", token_ids=(5, 6), logprobs=(-0.1, -0.2), oldest_weights=1)
    client = TurnClient(Server((3, 4), (4, 6)), response_length=9, seed=lambda turn: None, prefix=prefix)

    async def turns() -> list[dict[str, Any]]:
        asked: dict[str, Any] = {"prompt_ids": [0], "sampling_params": {}}
        return [(await client.generate("own", **asked)).extra_fields for _ in range(2)]

    first, second = asyncio.run(turns())
    assert (first["min_global_steps"], first["max_global_steps"]) == (1, 4)
    assert second["max_global_steps"] == 6
    assert client.weight_versions == (3, 6)


def test_a_prefix_has_the_weights_of_its_source_and_scratch_has_none(trajectory: MakeTrajectory) -> None:
    source = trajectory(weight_versions=(2, 5))
    assert prefix_of(source, AxpoConfig()).oldest_weights == 2
    assert prefix_of(source, AxpoConfig(prefix="scratch")).oldest_weights is None
    assert prefix_of(trajectory(), AxpoConfig()).oldest_weights is None


def test_mixed_prefixes_are_those_with_continuations_from_several_weights() -> None:
    same = [("a", 0, (2, 2)), ("a", 0, (2, 2)), ("a", None, (1, 2))]
    between, within = [("a", 1, (2, 2)), ("a", 1, (3, 3))], [("b", 0, (2, 3)), ("b", 0, (2, 3))]
    assert version_metrics([*same, *between, *within]) == {"axpo/mixed_version_prefixes": 2.0}
    assert version_metrics([("a", None, (1, 2))]) == {"axpo/mixed_version_prefixes": 0.0}
    assert version_metrics([("a", None, None), ("a", 0, None)]) == {}


# ------------------------------ requests that an update aborts ------------------------------


async def test_a_prefix_is_sent_with_every_resumption_and_never_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """verl's own resuming client under ours; the weights change twice while it answers."""
    asked: list[dict[str, Any]] = []
    answers = [([7], "aborted", 1), ([], "aborted", 2), ([8, 9], "stop", 3)]

    async def generate(self: Any, request_id: str, **kwargs: Any) -> TokenOutput:
        asked.append({**kwargs, "sampling_params": dict(kwargs["sampling_params"])})
        ids, reason, version = answers.pop(0)
        logprobs = [-0.1 * token for token in ids]
        return TokenOutput(
            token_ids=ids, log_probs=logprobs, stop_reason=reason, extra_fields={"global_steps": version}
        )

    async def sleep(_: float) -> None:
        return None

    monkeypatch.setattr(LLMServerClient, "generate", generate)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    client = FullyAsyncLLMServerClient(OmegaConf.create({}))
    prefix = Prefix(request_id="source", token_ids=(5, 6), logprobs=(-1.0, -2.0), oldest_weights=0)
    ours = TurnClient(client, response_length=10, seed=lambda turn: 3, prefix=prefix)
    output = await ours.generate("own", prompt_ids=[0, 0], sampling_params={})
    assert [request["prompt_ids"] for request in asked] == [[0, 0, 5, 6], [0, 0, 5, 6, 7], [0, 0, 5, 6, 7]]
    assert [request["sampling_params"]["max_tokens"] for request in asked] == [8, 7, 7]
    assert output.token_ids == [5, 6, 7, 8, 9]
    assert output.log_probs == pytest.approx([-1.0, -2.0, -0.7, -0.8, -0.9])
    assert (ours.weight_versions, output.extra_fields["min_global_steps"]) == ((1, 3), 0)


async def test_a_scoring_request_that_an_update_aborts_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, trajectory: MakeTrajectory
) -> None:
    """Through verl's resuming client the log-probs of the prompt would be lost."""
    scored = {"prompt_logprobs": [[0.0]] * 7}  # certain of every token
    answers = [("aborted", {}), ("stop", scored)]

    async def generate(self: Any, request_id: str, **_: Any) -> TokenOutput:
        reason, fields = answers.pop(0)
        return TokenOutput(token_ids=[1], log_probs=None, stop_reason=reason, extra_fields=fields)

    monkeypatch.setattr(LLMServerClient, "generate", generate)
    monkeypatch.setattr(entropy, "RETRY_S", 0.0)
    assert await entropy.mean_entropy(FullyAsyncLLMServerClient(OmegaConf.create({})), trajectory()) == 0.0
    assert answers == []
