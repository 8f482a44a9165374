"""Which rows an update gets, how many updates there are, and which weight a token has."""

import time
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.core_algos import agg_loss
from verl.trainer.ppo.rollout_corr_helper import compute_rollout_correction_and_rejection_mask

from verl_axpo.integration import mini_batches
from verl_axpo.integration.mini_batches import count_grpo_tokens, dealt, session_of, split_evenly


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


def test_rows_are_dealt_kind_by_kind_by_hand() -> None:
    # N = 2, two ranks of six rows, two updates. "late" was resampled (sessions 2, 3), so its rows arrived last.
    first = ["a_0_0", "a_1_0", "b_0_0", "late_0_0", "late_2_0", "late_3_0"]
    second = ["b_1_0", "c_0_0", "c_1_0", "pad_0_0", "late_1_0", "pad_1_0"]
    order = dealt([*first, *second], num_rollouts=2, num_ranks=2, num_updates=2)
    # rank 1: ordinary rows 0 1 2 3, resamples 4 5, alternating between the updates; row 3 is in update 2
    assert order[:6] == [0, 2, 4, 1, 3, 5]
    # rank 2: ordinary rows 6 7 8 10, padding 9 11
    assert order[6:] == [6, 8, 9, 7, 10, 11]


def test_what_is_left_over_goes_to_the_next_update_on_the_next_rank() -> None:
    # three ordinary rows and a resample on each rank, two updates: 2 + 1 on the first rank, 1 + 2 on the second
    keys = ["a_0_0", "a_1_0", "a_2_0", "a_9_0", "b_0_0", "b_1_0", "b_2_0", "b_9_0"]
    assert dealt(keys, num_rollouts=8, num_ranks=2, num_updates=2) == [0, 2, 1, 3, 5, 7, 4, 6]


@given(
    counts=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), min_size=1, max_size=4),
    updates=st.integers(1, 5),
    data=st.data(),
)
def test_every_update_gets_its_share(counts: list[tuple[int, int]], updates: int, data: st.DataObject) -> None:
    size = max(sum(row) for row in counts)
    size += -size % updates or (updates if size == 0 else 0)
    keys = []
    for rank, (ordinary, resamples) in enumerate(counts):
        part = [f"r{rank}o{at}_{at % 8}_0" for at in range(ordinary)] + [
            f"r{rank}_{8 + at}_0" for at in range(resamples)
        ]
        part += [f"pad{rank}{at}_0_0" for at in range(size - len(part))]
        keys += data.draw(st.permutations(part))
    order = dealt(keys, num_rollouts=8, num_ranks=len(counts), num_updates=updates)
    ordinary_in, kinds_in = Counter[int](), [Counter[str]() for _ in range(updates)]
    for rank in range(len(counts)):
        part = order[rank * size : (rank + 1) * size]
        assert sorted(part) == list(range(rank * size, (rank + 1) * size))  # a rank keeps its rows
        for place, at in enumerate(part):
            update = place // (size // updates)  # as verl cuts them
            kind = "pad" if keys[at].startswith("pad") else "resample" if session_of(keys[at]) >= 8 else "ordinary"
            kinds_in[update][kind] += 1
            ordinary_in[update] += kind == "ordinary"
    shares = [ordinary_in[update] for update in range(updates)]
    assert max(shares) - min(shares) <= 1  # over all ranks, because GRPO's token weight depends on it
    for kind in ("resample", "pad"):
        shares = [kinds[kind] for kinds in kinds_in]
        assert max(shares) - min(shares) <= 1


def test_few_padding_rows_do_not_put_every_resample_into_one_update() -> None:
    # 32 ranks of 64 rows, 4 updates: each rank has 60 ordinary rows, one resample and three padding rows
    rank = [*(f"o{row}_0_0" for row in range(60)), "o0_8_0", *(f"pad{row}_0_0" for row in range(3))]
    order = dealt(rank * 32, num_rollouts=8, num_ranks=32, num_updates=4)
    sessions = [session_of((rank * 32)[row]) for row in order]
    updates = [sessions[start : start + 16] for start in range(0, len(sessions), 16)]
    assert [sum(update.count(8) for update in updates[first::4]) for first in range(4)] == [8, 8, 8, 8]


def test_dealing_a_large_batch_takes_a_moment() -> None:
    rows = [f"q{row % 512}_{row // 512}_0" for row in range(20_480)]  # 512 questions, 40 sessions each
    started = time.process_time()
    dealt(rows, num_rollouts=32, num_ranks=64, num_updates=16)
    assert time.process_time() - started < 5.0  # well below a second; quadratic would be minutes


@pytest.mark.parametrize("rejected", [False, True])
def test_rows_count_what_grpo_would_have_trained_whatever_is_rejected_later(
    monkeypatch: pytest.MonkeyPatch, rejected: bool
) -> None:
    masks = [torch.tensor(mask) for mask in ([1, 1, 0, 1], [1, 1], [0, 0, 1, 1], [0])]
    if rejected:  # rollout_correction.rollout_rs: verl takes tokens out of response_mask, and counts them all the same
        masks[0][0] = masks[1][1] = 0
    put: dict[str, Any] = {}
    nested = torch.nested.as_nested_tensor(masks, layout=torch.jagged)
    queue = SimpleNamespace(
        kv_batch_get=lambda **_: {"response_mask": nested},
        kv_batch_put=lambda *, keys, partition_id, fields: put.update(fields=fields),
    )
    monkeypatch.setattr(mini_batches, "tq", queue)
    rows = [
        SimpleNamespace(grpo_tokens=3),
        SimpleNamespace(grpo_tokens=9),  # a source: 9 tokens before it was cut to 2
        SimpleNamespace(grpo_tokens=0),  # a continuation
        None,  # verl's padding
    ]

    class Batch(SimpleNamespace):
        def __len__(self) -> int:
            return 4

    count_grpo_tokens(Batch(keys=list("abcd"), partition_id="train"), rows)
    sums = [int(mask.sum()) for mask in put["fields"]["loss_mask"].unbind()]
    assert sums == [3, 9, 0, 0]
    assert [len(mask) for mask in put["fields"]["loss_mask"].unbind()] == [4, 2, 4, 1]


def test_rejected_tokens_leave_an_ordinary_token_the_weight_that_grpo_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Invariant 5 with verl's own rejection and loss: three rollouts, of which one is a source, and its resample."""
    whole = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [0, 1, 1, 0]])  # the last row is the resample
    published = whole.clone()
    published[1, 1:] = 0  # the source, cut at its prefix
    engine = torch.zeros(4, 4)
    trainer = torch.zeros(4, 4)
    trainer[0, 2] = trainer[3, 1] = 1.0  # tokens whose ratio of e is out of [0.5, 2]

    def after_rejection(mask: torch.Tensor, rows: slice) -> torch.Tensor:
        _, kept, _ = compute_rollout_correction_and_rejection_mask(
            trainer[rows], engine[rows], mask[rows].float(), rollout_rs="token_k1", rollout_rs_threshold="0.5_2.0"
        )
        return kept

    def weights(kept: torch.Tensor, num_tokens: int) -> torch.Tensor:
        loss = torch.zeros(kept.shape, requires_grad=True)
        agg_loss(loss, kept, "token-mean", batch_num_tokens=num_tokens).backward()
        return loss.grad

    ours_mask = after_rejection(published, slice(0, 4))
    assert ours_mask[0].tolist() == [1, 1, 0, 1]  # a token of an ordinary row was rejected
    put: dict[str, Any] = {}
    nested = torch.nested.as_nested_tensor(list(ours_mask), layout=torch.jagged)
    queue = SimpleNamespace(
        kv_batch_get=lambda **_: {"response_mask": nested},
        kv_batch_put=lambda *, keys, partition_id, fields: put.update(fields=fields),
    )
    monkeypatch.setattr(mini_batches, "tq", queue)
    rows = [SimpleNamespace(grpo_tokens=tokens) for tokens in (4, 3, 2, 0)]
    batch = KVBatchMeta(keys=list("abcd"), tags=[{}] * 4, partition_id="train")
    count_grpo_tokens(batch, rows)
    ours = weights(ours_mask, int(sum(mask.sum() for mask in put["fields"]["loss_mask"].unbind())))
    # verl counts the mask that the rollout left, before rejection: 4 + 3 + 2
    grpo = weights(after_rejection(whole, slice(0, 3)), 9)
    assert torch.equal(ours[[0, 2]], grpo[[0, 2]])
