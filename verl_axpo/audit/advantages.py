"""Equations 2-4 once more, in NumPy and double precision: rows of a step -> their advantages, and how exact those are.

The trainer's are `core.advantage.row_advantages`, in torch. Two versions that agree are evidence; one version called
twice is none. And an audit that loads no torch needs half a gigabyte less.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.step import recovery
from verl_axpo.core.types import Rollout, Status, continuations_of

EPSILON = 1e-6  # added to a group's std, as in verl
TOLERANCE = 1e-6  # relative and absolute: a few units in the last place of the trainer's float32
EXACT_STEPS = 1024  # multiples of 1/1024 add up without rounding in float32, as rewards of 0, 0.5 and 1 do
ROUNDING = 2.0**-23  # of float32

Advantage = tuple[float, float]  # value, absolute tolerance


def advantages(rows: Sequence[Rollout], config: AxpoConfig, *, normalize_std: bool) -> list[Advantage]:
    """One advantage per row; 0 for infra failures and for a row without a peer to be better or worse than."""
    groups: dict[tuple[str, int | None], list[int]] = defaultdict(list)
    continuations = continuations_of(rows)
    for index, row in enumerate(rows):
        if row.status is not Status.INFRA_FAILURE:
            groups[row.uid, row.source if config.advantage_group == "separate" else None].append(index)
    values: list[Advantage] = [(0.0, TOLERANCE)] * len(rows)
    for members in groups.values():
        rewards = [rows[index].reward for index in members]
        for place, index in enumerate(members):
            values[index] = _normalized(rewards, place, normalize_std)
            resampled = continuations.get((rows[index].uid, rows[index].session))
            if resampled is None or rows[index].source is not None or not config.splits_rollouts:
                continue
            recovered = recovery(resampled, config)
            if not config.credits_prefix:
                values[index] = (0.0, TOLERANCE) if recovered is not None else values[index]
            elif recovered is not None:
                replaced = [*rewards[:place], float(recovered), *rewards[place + 1 :]]
                values[index] = _normalized(replaced, place, normalize_std)
    return values


def _normalized(rewards: Sequence[float], place: int, normalize_std: bool) -> Advantage:
    if len(rewards) < 2:
        return 0.0, TOLERANCE
    values = np.asarray(rewards, dtype=np.float32).astype(np.float64)
    scale = values.std(ddof=1) + EPSILON if normalize_std else 1.0
    advantage = float((values[place] - values.mean()) / scale)
    exact = bool((values * EXACT_STEPS % 1 == 0).all())
    rounded = 0.0 if exact else len(values) ** 0.5 * ROUNDING * float(np.abs(values).max()) / scale
    return advantage, TOLERANCE * max(1.0, abs(advantage)) + rounded
