"""The three advantage streams (equations 2-4): rows of the batch -> one advantage per row.

    1. continuation of a prefix:  its reward among the K rewards of that prefix
    2. prefix of a source:        the recovery reward R, in place of the source's own, among the N of its group
    3. any other rollout:         GRPO on the original rewards

The response mask decides which tokens an advantage reaches: a source is cut at its prefix, a continuation has its
prefix masked, so every token is updated from exactly one stream.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.step import recovery
from verl_axpo.core.types import Rollout, Status, continuations_of


def row_advantages(
    rows: Sequence[Rollout], config: AxpoConfig, *, normalize_std: bool = True, epsilon: float = 1e-6
) -> torch.Tensor:
    """One advantage per row, for the row's trained tokens.

    With nothing resampled it is verl's `compute_grpo_outcome_advantage` bit for bit: the same torch operations on each
    group's float32 rewards in row order, unbiased std. Only a row without a peer differs: it gets 0, where verl takes
    its reward for an advantage. In AXPO such a row is what is left of a group whose other rollouts were lost.

    Args:
        rows: R rollouts and continuations, those of a group in any order; infra failures get 0 and stand outside every
            mean and std.
        config: the algorithm's settings.
        normalize_std: divide by the group's std; False as in Dr. GRPO (verl's `norm_adv_by_std_in_grpo`).
        epsilon: added to the std.

    Returns:
        (R,) float32 on the CPU.
    """
    rewards_R = torch.tensor([row.reward for row in rows], dtype=torch.float32)
    advantages_R = torch.zeros(len(rows), dtype=torch.float32)

    def normalize(rewards: torch.Tensor) -> torch.Tensor:
        if len(rewards) < 2:
            return torch.zeros_like(rewards)  # no peer to be better or worse than
        centered = rewards - rewards.mean()
        return centered / (rewards.std() + epsilon) if normalize_std else centered

    # Streams 1 and 3: every continuation among those of its prefix, every rollout among those of its group
    groups = _normalized_together(rows, config)
    for members in groups.values():
        advantages_R[members] = normalize(rewards_R[members])
    # Stream 2: a source, with R in place of its own reward and every other reward as it was
    for index, recovered in _recovered(rows, config).items():
        if not config.credits_prefix:
            advantages_R[index] = 0
            continue
        members = groups[rows[index].uid, None]
        place = members.index(index)
        replaced = rewards_R[members]
        replaced[place] = recovered
        advantages_R[index] = normalize(replaced)[place]
    return advantages_R


def _normalized_together(rows: Sequence[Rollout], config: AxpoConfig) -> dict[tuple[str, int | None], list[int]]:
    """Indices of the usable rows that share a mean and a std, by (uid, source of a continuation or None)."""
    groups: dict[tuple[str, int | None], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        if row.status is not Status.INFRA_FAILURE:
            groups[row.uid, row.source if config.advantage_group == "separate" else None].append(index)
    return groups


def _recovered(rows: Sequence[Rollout], config: AxpoConfig) -> dict[int, int]:
    """Index of each source that is trained by stream 2 -> its R."""
    if not config.splits_rollouts:
        return {}
    outcomes = {source: recovery(group, config) for source, group in continuations_of(rows).items()}
    return {
        index: outcome
        for index, row in enumerate(rows)
        if row.source is None and row.status is not Status.INFRA_FAILURE
        if (outcome := outcomes.get((row.uid, row.session))) is not None
    }
