"""A step's rows in GRPO's number of mini-batches, with GRPO's weight on every ordinary token (equation 5).

balanced batch -> dealt() -> each update has its share of ordinary rows and of AXPO's
               -> count_grpo_tokens() -> what verl divides by
               -> split_evenly() -> as many updates as GRPO makes
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import transfer_queue as tq
from tensordict import TensorDict
from transfer_queue import KVBatchMeta

from verl_axpo.integration.lineage import BatchRow


def session_of(key: str) -> int:
    """The session of a row's key, `{uid}_{session}_{output}`; -1 for verl's padding rows."""
    return -1 if key.startswith("pad") else int(key.rsplit("_", 2)[1])


def dealt(keys: Sequence[str], num_rollouts: int, num_ranks: int, num_updates: int) -> list[int]:
    """The order in which every update gets as many ordinary rows, resamples and padding rows as the others.

    verl cuts each rank's part of the batch, in its order, into the updates' mini-batches. That order is one of arrival,
    and a group that was resampled arrives last: uncut, the first updates would have none of AXPO's rows and the last
    ones most. Here each rank's rows are dealt out like cards, kind by kind, and the next rank's go on where they ended.

    Args:
        keys: of the balanced batch, R of them; R is a multiple of `num_ranks * num_updates`.
        num_rollouts: N; sessions from N on are resamples.
        num_ranks: parts of the batch, one behind the other.
        num_updates: mini-batches of each part.

    Returns:
        R indices into `keys`; a rank keeps its rows.
    """
    size = len(keys) // num_ranks
    kinds = [_kind(session_of(key), num_rollouts) for key in keys]
    order: list[int] = []
    first = 0  # the update that gets a rank's first card
    for start in range(0, len(keys), size):
        cards = sorted(range(start, start + size), key=lambda at: kinds[at])
        hands: list[list[int]] = [[] for _ in range(num_updates)]
        for place, card in enumerate(cards):
            hands[(first + place) % num_updates].append(card)
        order += [card for hand in hands for card in hand]
        first += sum(kinds[at] == 0 for at in cards)
    return order


def _kind(session: int, num_rollouts: int) -> int:
    return 2 if session < 0 else int(session >= num_rollouts)


def count_grpo_tokens(batch: KVBatchMeta, rows: Sequence[BatchRow | None]) -> None:
    """Keep an ordinary token's weight what GRPO gives it (invariant 5): AXPO's loss is added, not averaged in.

    In mode `token-mean` verl divides by the batch's sum of `loss_mask`, and reads nothing else from it (the loss itself
    is masked by `response_mask`). So the sum is made GRPO's: an extra row counts as many tokens as GRPO would have
    trained in its place, none for a resample, the uncut rollout's for a source.
    """
    data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["response_mask"])
    masks = list(data["response_mask"].unbind())
    for at, row in enumerate(rows):
        if row is not None and row.is_extra:
            masks[at] = torch.zeros_like(masks[at])
            masks[at][0] = row.grpo_tokens
    nested = torch.nested.as_nested_tensor(masks, layout=torch.jagged)
    fields = TensorDict({"loss_mask": nested}, batch_size=len(batch))
    tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)


@contextmanager
def split_evenly(worker_group: Any, num_updates: int) -> Iterator[None]:
    """Let the workers cut the batch into `num_updates` mini-batches, whatever their size.

    verl's `_update_actor` asks for mini-batches of GRPO's size; `train_mini_batch` can do either. The weight of a row,
    one over GRPO's mini-batch size, stays (`global_batch_size`).
    """
    update: Callable[[KVBatchMeta], Any] = worker_group.update_actor

    def update_evenly(batch: KVBatchMeta) -> Any:
        del batch.extra_info["mini_batch_size"]
        batch.extra_info["num_mini_batch"] = num_updates
        return update(batch)

    worker_group.update_actor = update_evenly
    try:
        yield
    finally:
        worker_group.update_actor = update
