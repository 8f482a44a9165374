"""The advantage estimator `axpo` in verl's registry: the batch's rows + token-level rewards -> token-level advantages.

verl hands an estimator rewards, masks and uids, but not what a row is. The trainer knows, and tells it around the call:
`with announced(rows): super()._compute_advantage(...)`.

Advantages are computed here and not in the worker that knows the group: GRPO's float32 sums run in the order of the
batch, which the trainer alone knows, and AXPO without resampling must give the same bits.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from verl.trainer.ppo.core_algos import register_adv_est

from verl_axpo.core.advantage import row_advantages
from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Rollout

ESTIMATOR_NAME = "axpo"


@dataclass(slots=True)
class Announcement:
    """The batch's rows, R of them in batch order (None for padding); the estimator leaves its advantages here."""

    rows: Sequence[Rollout | None]
    advantages_R: torch.Tensor = field(default_factory=lambda: torch.empty(0))


_announcement: ContextVar[Announcement | None] = ContextVar("axpo_announcement", default=None)


@contextmanager
def announced(rows: Sequence[Rollout | None]) -> Iterator[Announcement]:
    """Tell the estimator what the rows of the next batch are; None for a padding row."""
    announcement = Announcement(rows)
    token = _announcement.set(announcement)
    try:
        yield announcement
    finally:
        _announcement.reset(token)


@register_adv_est(ESTIMATOR_NAME)
def compute_axpo_advantage(
    token_level_rewards: torch.Tensor,
    response_mask: torch.Tensor,
    index: npt.NDArray[np.object_],
    config: Mapping[str, Any],
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Equations 2-4 on verl's batch; with nothing resampled, verl's `compute_grpo_outcome_advantage` bit for bit.

    Args:
        token_level_rewards: (R, T).
        response_mask: (R, T), 1 on trained tokens.
        index: (R,) uids.
        config: verl's `algorithm`, with `axpo` in it.

    Returns:
        advantages and returns, the same (R, T) tensor.

    Raises:
        ValueError: called outside `announced`, so by a trainer that is not ours; or for another batch.
    """
    announcement = _announcement.get()
    if announcement is None:
        raise ValueError(
            "algorithm.adv_estimator=axpo: a trainer that is not verl_axpo's called it; set "
            "trainer.v1.trainer_mode=axpo_sync (verl_axpo's plugin does it when verl's validate_config runs)"
        )
    if len(announcement.rows) != len(index):
        raise ValueError(
            f"algorithm.adv_estimator=axpo: got {len(index)} rows, expected the {len(announcement.rows)} announced"
        )
    with torch.no_grad():
        rewards_R = token_level_rewards.sum(dim=-1).tolist()
        rows = [
            Rollout(uid=uid, session=at, reward=reward, uses_tool=False)
            if row is None
            else replace(row, reward=_exact(row.reward, reward))
            for at, (row, uid, reward) in enumerate(zip(announcement.rows, index, rewards_R, strict=True))
        ]
        announcement.advantages_R = row_advantages(
            rows,
            AxpoConfig.from_mapping(config.get("axpo") or {}),
            normalize_std=config.get("norm_adv_by_std_in_grpo", True),
        )
        advantages_RT = announcement.advantages_R.to(token_level_rewards).unsqueeze(-1) * response_mask
    return advantages_RT, advantages_RT


def _exact(announced_reward: float, summed: float) -> float:
    """The announced reward where verl's float32 is the same number: a 0.9 as float32 misses a threshold of 0.9."""
    return announced_reward if float(np.float32(announced_reward)) == summed else summed
