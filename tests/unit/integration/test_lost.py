"""What a step may lose: single failures are counted; if too many rollouts are lost, the run stops before the update."""

from collections import Counter
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from omegaconf import OmegaConf
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import PPOTrainerSync

from verl_axpo.core.config import AxpoConfig
from verl_axpo.integration.lost import RolloutsLostError, check_lost, failed_sessions
from verl_axpo.integration.trainer import AxpoTrainer, AxpoTrainerSync

N = 4


def keys(uid: str, sessions: Iterable[int]) -> list[str]:
    return [f"{uid}_{session}_0" for session in sessions]


def test_failed_sessions_are_those_of_failed_groups_without_a_row() -> None:
    there = [*keys("a", [0, 2]), *keys("b", range(N)), *keys("a", [N, N + 1]), "a_2_1", "pad_0_0"]
    assert failed_sessions({"a", "c"}, there, N) == 2 + N  # of "a" 1 and 3, all of "c"; resamples and outputs aside
    assert failed_sessions(set(), there, N) == 0


@pytest.mark.parametrize(("failed", "infra", "stops"), [(20, 0, False), (0, 20, False), (21, 0, True), (10, 11, True)])
def test_more_than_the_share_stops_the_step_whoever_lost_it(failed: int, infra: int, stops: bool) -> None:
    arguments: dict[str, Any] = {"failed": failed, "infra": infra, "expected": 100, "max_share": 0.2, "errors": {}}
    if not stops:
        return check_lost("step 3", **arguments)
    with pytest.raises(RolloutsLostError, match=r"step 3: 21 of 100 .*max_failed_share=0.2"):
        check_lost("step 3", **arguments)


def test_the_message_has_the_most_frequent_errors() -> None:
    errors = {"rare": 1, "ActorDiedError: reward": 70, "b": 2, "c": 3}
    with pytest.raises(RolloutsLostError, match=r"\(70 x ActorDiedError: reward; 3 x c; 2 x b\)"):
        check_lost("step 1", failed=76, infra=0, expected=128, max_share=0.2, errors=errors)


def trainer(monkeypatch: pytest.MonkeyPatch, failed: set[str], batch: list[str], step: int = 5) -> AxpoTrainer:
    """Of 2 questions; `batch` are the rows that verl's buffer hands out, none at all makes it raise as verl's does."""

    def sample(global_steps: int, partition_id: str, batch_size: int) -> tuple[KVBatchMeta, dict[str, Any]]:
        if not batch:
            raise RuntimeError("no materializable trajectories. Enable sync_refill_failed_groups")
        return KVBatchMeta(partition_id=partition_id, keys=batch, tags=[{} for _ in batch]), {"a": 1}

    buffer = SimpleNamespace(sample=sample, failure_keys={"train": failed, "val": failed})
    monkeypatch.setattr(PPOTrainerSync, "_build_replay_buffer", lambda self: buffer)
    monkeypatch.setattr(ray, "get", lambda told: told)
    errors = SimpleNamespace(take_errors=SimpleNamespace(remote=lambda: Counter({"OSError: gone": 3})))
    ours = AxpoTrainerSync.__new__(AxpoTrainerSync)
    ours.num_rollouts, ours.axpo, ours.global_steps = N, AxpoConfig(), step
    ours.config = OmegaConf.create({"actor_rollout_ref": {"rollout": {"val_kwargs": {"n": 2}}}})
    ours.agent_loop_manager = SimpleNamespace(coordinator=errors)
    ours.replay_buffer = ours._build_replay_buffer()
    return ours


@pytest.mark.parametrize("batch", [[*keys("a", range(N)), *keys("b", [0, 1])], []], ids=["some failed", "all failed"])
def test_a_step_never_trains_on_what_happened_to_survive(monkeypatch: pytest.MonkeyPatch, batch: list[str]) -> None:
    ours = trainer(monkeypatch, {"b"} if batch else {"a", "b"}, batch)
    with pytest.raises(RolloutsLostError, match=f"step 5: {2 if batch else 8} of 8 .*3 x OSError: gone"):
        ours.replay_buffer.sample(global_steps=5, partition_id="train", batch_size=2)


def test_nor_is_a_validation_a_score_of_the_survivors(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = trainer(monkeypatch, {"b"}, [*keys("a", range(2)), *keys("b", [1])], step=0)
    with pytest.raises(RolloutsLostError, match="validation at step 0: 1 of 4"):
        ours.replay_buffer.sample(global_steps=0, partition_id="val", batch_size=2)


def test_a_session_that_fails_alone_costs_the_step_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [*keys("a", range(N)), *keys("b", [0, 1, 3])]
    ours = trainer(monkeypatch, {"b"}, batch)
    found, metrics = ours.replay_buffer.sample(global_steps=5, partition_id="train", batch_size=2)
    assert (found.keys, metrics) == (batch, {"a": 1})
    assert (ours.failed_sessions, ours.expected) == (1, 8)


def test_what_is_no_loss_of_sessions_is_verls_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="no materializable"):
        trainer(monkeypatch, set(), []).replay_buffer.sample(global_steps=5, partition_id="train", batch_size=2)
