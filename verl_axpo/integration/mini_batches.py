"""A step's rows in GRPO's number of mini-batches, with GRPO's weight on every ordinary token (equation 5).

balanced batch -> dealt() -> each update has its share of ordinary rows and of AXPO's
               -> count_grpo_tokens() -> what verl divides by
               -> split_evenly() -> as many updates as GRPO makes
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import transfer_queue as tq
from tensordict import TensorDict
from transfer_queue import KVBatchMeta

from verl_axpo.integration.batch_row import BatchRow

Vertex = tuple[str, int]
Edge = tuple[Vertex, Vertex]


def session_of(key: str) -> int:
    """The session of a row's key, `{uid}_{session}_{output}`; -1 for verl's padding rows."""
    return -1 if key.startswith("pad") else int(key.rsplit("_", 2)[1])


def dealt(keys: Sequence[str], num_rollouts: int, num_ranks: int, num_updates: int) -> list[int]:
    """The order in which every update gets as many ordinary rows, continuations and padding rows as the others.

    verl cuts each rank's part of the batch, in its order, into the updates' mini-batches. That order is one of arrival,
    and a group that was resampled arrives last: left alone, the first updates would have none of AXPO's rows and the
    last most of them. Here rows of each kind go round-robin over the updates, continuing across ranks: over all ranks
    the updates' numbers of rows of a kind differ by one at most.

    Args:
        keys: of the balanced batch, R of them; R is a multiple of `num_ranks * num_updates`.
        num_rollouts: N; sessions from N on are continuations.
        num_ranks: parts of the batch, one after the other.
        num_updates: mini-batches of each part.

    Returns:
        R indices into `keys`; a rank keeps its rows.
    """
    size = len(keys) // num_ranks
    kinds = [_kind(session_of(key), num_rollouts) for key in keys]
    rows = sorted(range(len(keys)), key=lambda row: (row // size, kinds[row]))
    of_kind: Counter[int] = Counter()
    edges: list[Edge] = []
    for place, row in enumerate(rows):
        edges.append((("rank", place // num_updates), (f"kind {kinds[row]}", of_kind[kinds[row]] // num_updates)))
        of_kind[kinds[row]] += 1
    updates = dict(zip(rows, coloured(edges, num_updates), strict=True))
    return sorted(rows, key=lambda row: (row // size, updates[row]))


def coloured(edges: Sequence[Edge], num_colours: int) -> list[int]:
    """A colour for each edge of a bipartite graph, so that no two edges at a vertex share one (König's theorem).

    In `dealt` an edge is a row, a colour its update. A vertex is a block of up to `num_updates` rows, of one rank or of
    one kind; a row belongs to one block of each sort. So a full block has one row in every update.

    Args:
        edges: pairs of vertices, no vertex in more than `num_colours` of them.
        num_colours: colours are 0 to `num_colours` - 1; the lowest that is free at both ends is preferred.
    """
    at: dict[Vertex, dict[int, int]] = defaultdict(dict)  # vertex -> colour -> edge
    colours = [0] * len(edges)

    def paint(edge: int, colour: int) -> None:
        colours[edge] = colour
        for vertex in edges[edge]:
            at[vertex][colour] = edge

    for edge, (left, right) in enumerate(edges):
        free = [[colour for colour in range(num_colours) if colour not in at[end]] for end in (left, right)]
        shared = [colour for colour in free[0] if colour in free[1]]
        if not shared:
            path = list(_alternating(at, edges, right, free[0][0], free[1][0]))
            for other in path:
                for vertex in edges[other]:
                    del at[vertex][colours[other]]
            for other in path:
                paint(other, free[0][0] if colours[other] == free[1][0] else free[1][0])
        paint(edge, (shared or free[0])[0])
    return colours


def _alternating(
    at: Mapping[Vertex, Mapping[int, int]], edges: Sequence[Edge], vertex: Vertex, colour: int, other: int
) -> Iterator[int]:
    """The edges of the path from `vertex` that have `colour` and `other` in turn; exchanged, `vertex` is rid of
    `colour`. The graph being bipartite, the path never reaches the far end of an edge that needs `colour`."""
    while (edge := at[vertex].get(colour)) is not None:
        yield edge
        vertex = next(end for end in edges[edge] if end != vertex)
        colour, other = other, colour


def _kind(session: int, num_rollouts: int) -> int:
    return 2 if session < 0 else int(session >= num_rollouts)


def count_grpo_tokens(batch: KVBatchMeta, rows: Sequence[BatchRow | None]) -> None:
    """Keep an ordinary token's weight what GRPO gives it (invariant 5): AXPO's loss is added, not averaged in.

    In mode `token-mean` verl divides by the batch's sum of `loss_mask`, and reads nothing else from it (the loss itself
    is masked by `response_mask`). So each row is made to count the tokens that GRPO would have trained in its place:
    none for a continuation and for padding, the uncut rollout's for a source. They were counted at the rollout, because
    `rollout_correction.rollout_rs` takes tokens out of `response_mask` that verl goes on counting.
    """
    data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["response_mask"])
    masks = [torch.zeros_like(mask) for mask in data["response_mask"].unbind()]
    for mask, row in zip(masks, rows, strict=True):
        mask[0] = 0 if row is None else row.grpo_tokens
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
