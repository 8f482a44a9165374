"""The trainer's parts that need no cluster: what a row is, how many updates, and whose token counts how much."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from verl_axpo.integration import trainer
from verl_axpo.integration.trainer import AxpoTrainer, count_grpo_tokens, session_of, split_evenly


@pytest.mark.parametrize(
    ("key", "session"), [("uid_3_0", 3), ("s000001q00002_12_0", 12), ("pad0123456789abcdef_7_0", -1)]
)
def test_session_of_a_key(key: str, session: int) -> None:
    assert session_of(key) == session


def test_splitting_evenly_swaps_the_size_of_mini_batches_for_their_number_and_puts_everything_back() -> None:
    asked: list[dict[str, Any]] = []
    group = SimpleNamespace(update_actor=lambda batch: asked.append(dict(batch.extra_info)))
    original = group.update_actor
    with split_evenly(group, 3):
        group.update_actor(SimpleNamespace(extra_info={"mini_batch_size": 128, "global_batch_size": 128}))
    assert asked == [{"num_mini_batch": 3, "global_batch_size": 128}]
    assert group.update_actor is original


def make_trainer(*, dynamic: bool = False, extra: bool = True, mini: int = 16) -> AxpoTrainer:
    one = AxpoTrainer.__new__(AxpoTrainer)
    one.use_critic, one.global_steps, one.has_extra_rows, one.num_rollouts = False, 1, extra, 8
    micro = {"log_prob_use_dynamic_bsz": dynamic, "log_prob_micro_batch_size_per_gpu": 64}
    one.config = OmegaConf.create(
        {
            "data": {"train_batch_size": 32},
            "trainer": {"critic_warmup": 0},
            "actor_rollout_ref": {
                "actor": {"ppo_mini_batch_size": mini, "use_dynamic_bsz": dynamic, "ppo_micro_batch_size_per_gpu": 32},
                "rollout": {"n": 8, **micro},
                "ref": micro,
            },
        }
    )
    return one


def test_the_batch_is_padded_to_an_even_split_and_not_to_a_further_mini_batch() -> None:
    # GRPO's multiple is its mini-batch, 16 x 8 rows
    assert make_trainer(extra=False)._get_required_batch_multiple(dp_size=2) == 128
    # 2 updates of whole micro-batches of 32, and log-probs in micro-batches of 64, on each of 2 GPUs
    assert make_trainer()._get_required_batch_multiple(dp_size=2) == 2 * 64
    assert make_trainer(dynamic=True)._get_required_batch_multiple(dp_size=2) == 2 * 2


@pytest.mark.parametrize(("mini", "updates"), [(32, 1), (16, 2), (12, 3)])
def test_the_number_of_updates_is_grpos(mini: int, updates: int) -> None:
    assert make_trainer(mini=mini).num_updates == updates


def test_extra_rows_count_as_what_grpo_would_have_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = [torch.tensor(mask) for mask in ([1, 1, 0, 1], [1, 1], [0, 0, 1, 1], [0])]
    put: dict[str, Any] = {}
    nested = torch.nested.as_nested_tensor(masks, layout=torch.jagged)
    queue = SimpleNamespace(
        kv_batch_get=lambda **_: {"response_mask": nested},
        kv_batch_put=lambda *, keys, partition_id, fields: put.update(fields=fields),
    )
    monkeypatch.setattr(trainer, "tq", queue)
    rows = [
        SimpleNamespace(is_extra=False, grpo_tokens=3),
        SimpleNamespace(is_extra=True, grpo_tokens=9),  # a source: 9 tokens before it was cut to 2
        SimpleNamespace(is_extra=True, grpo_tokens=0),  # a resample
        None,  # verl's padding
    ]

    class Batch(SimpleNamespace):
        def __len__(self) -> int:
            return 4

    count_grpo_tokens(Batch(keys=list("abcd"), partition_id="train"), rows)
    sums = [int(mask.sum()) for mask in put["fields"]["loss_mask"].unbind()]
    assert sums == [3, 9, 0, 0]
    assert [len(mask) for mask in put["fields"]["loss_mask"].unbind()] == [4, 2, 4, 1]
