"""Invariant 1: with nothing selected, or no budget, the advantages are verl's GRPO bit for bit."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from verl_axpo.core.advantage import row_advantages
from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Rollout, Status

core_algos = pytest.importorskip("verl.trainer.ppo.core_algos")

# Of two or more: `rollout.n=1` is refused, and a rollout that lost its peers gets 0 (test_advantage.py)
groups = st.lists(
    st.lists(st.sampled_from([0.0, 1.0, 0.1, 1 / 3, -0.5]), min_size=2, max_size=16), min_size=1, max_size=6
)
masks = st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=96, max_size=96)


def row(uid: str, session: int, reward: float, status: Status = Status.OK) -> Rollout:
    return Rollout(uid=uid, session=session, reward=reward, uses_tool=False, status=status)


def verl_grpo(rewards_R: torch.Tensor, mask_RT: torch.Tensor, uids: list[str], normalize_std: bool) -> torch.Tensor:
    """verl's estimator, the reward on the last token as verl's reward managers put it."""
    rewards_RT = torch.zeros(mask_RT.shape)
    rewards_RT[:, -1] = rewards_R
    advantages_RT, _ = core_algos.compute_grpo_outcome_advantage(
        rewards_RT, mask_RT, np.array(uids, dtype=object), norm_adv_by_std_in_grpo=normalize_std
    )
    return advantages_RT


@given(groups, masks, st.booleans(), st.randoms())
def test_nothing_selected_is_verls_grpo_bit_for_bit(
    groups: list[list[float]], mask: list[list[bool]], normalize_std: bool, random: st.DataObject
) -> None:
    rows = [row(str(uid), n, reward) for uid, group in enumerate(groups) for n, reward in enumerate(group)]
    random.shuffle(rows)
    mask_RT = torch.tensor(mask[: len(rows)], dtype=torch.int64)
    expected = verl_grpo(
        torch.tensor([member.reward for member in rows]), mask_RT, [member.uid for member in rows], normalize_std
    )
    for config in (AxpoConfig(budget=0), AxpoConfig(), AxpoConfig(advantage_group="merged", prefix_credit=False)):
        ours = row_advantages(rows, config, normalize_std=normalize_std).unsqueeze(-1) * mask_RT
        assert ours.dtype == expected.dtype
        assert torch.equal(ours, expected)


def test_infra_failures_leave_the_rest_as_if_they_had_not_been_drawn() -> None:
    rewards = [1.0, 0.0, 0.0, 1.0, 0.0]
    rows = [row("q", n, reward) for n, reward in enumerate(rewards)]
    broken = [row("q", 9, 1.0, Status.INFRA_FAILURE)]
    expected = verl_grpo(torch.tensor(rewards), torch.ones(5, 1, dtype=torch.int64), ["q"] * 5, True)[:, 0]
    assert torch.equal(row_advantages(rows + broken, AxpoConfig())[:5], expected)
