"""The estimator in verl's registry: equal to GRPO when nothing is selected, equations 2-4 when something is."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage, get_adv_estimator_fn

from verl_axpo.core.types import Rollout
from verl_axpo.integration.estimator import announced, compute_axpo_advantage

CONFIG = OmegaConf.create({"adv_estimator": "axpo", "axpo": {}})


def row(uid: str, session: int, reward: float, source: int | None = None) -> Rollout:
    return Rollout(uid=uid, session=session, reward=reward, uses_tool=True, source=source)


def batch(rewards: list[float], lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token-level rewards and masks (R, T): the reward on the last token, as verl has it."""
    rewards_RT, mask_RT = (
        torch.zeros(len(rewards), max(lengths)),
        torch.zeros(len(rewards), max(lengths), dtype=torch.long),
    )
    for at, (reward, length) in enumerate(zip(rewards, lengths, strict=True)):
        rewards_RT[at, length - 1] = reward
        mask_RT[at, :length] = 1
    return rewards_RT, mask_RT


def test_it_is_registered() -> None:
    assert get_adv_estimator_fn("axpo") is compute_axpo_advantage


def test_nothing_selected_is_grpo_bit_for_bit_padding_rows_included() -> None:
    rewards_RT, mask_RT = batch([0.1, 0.7, 1.0, 0.3, 0.0, 0.9, 0.0], [3, 1, 4, 2, 2, 3, 1])
    uids = np.array(["a", "b", "a", "b", "a", "b", "pad"], dtype=object)
    rows = [row(uid, at, 0.0) for at, uid in enumerate(uids[:-1])]
    with announced([*rows, None]):
        ours, _ = compute_axpo_advantage(rewards_RT, mask_RT, uids, CONFIG)
    theirs, _ = compute_grpo_outcome_advantage(rewards_RT, mask_RT, uids)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("normalize", [True, False])
def test_a_restored_source_by_hand(normalize: bool) -> None:
    # Question a: rewards 0 (the source), 0, 1. Its two continuations: 1, 0. R = 1.
    rewards_RT, mask_RT = batch([0.0, 0.0, 1.0, 1.0, 0.0], [2, 2, 2, 3, 3])
    mask_RT[3:, 0] = 0  # the prefix of the resamples is masked
    rows = [
        row("a", 0, 0.0),
        row("a", 1, 0.0),
        row("a", 2, 1.0),
        row("a", 3, 1.0, source=0),
        row("a", 4, 0.0, source=0),
    ]
    config = OmegaConf.merge(CONFIG, {"norm_adv_by_std_in_grpo": normalize, "axpo": {"num_continuations": 2}})
    with announced(rows) as announcement:
        advantages_RT, _ = compute_axpo_advantage(rewards_RT, mask_RT, np.array(["a"] * 5, dtype=object), config)
    # source: R = 1 among (1, 0, 1): mean 2/3, std sqrt(1/3); the others among (0, 0, 1): mean 1/3, std sqrt(1/3)
    # continuations among (1, 0): mean 1/2, std sqrt(1/2)
    std = {True: ((1 / 3) ** 0.5, 0.5**0.5), False: (1.0, 1.0)}[normalize]
    expected = [1 / 3 / std[0], -1 / 3 / std[0], 2 / 3 / std[0], 0.5 / std[1], -0.5 / std[1]]
    torch.testing.assert_close(announcement.advantages_R, torch.tensor(expected), rtol=0, atol=1e-5)
    assert torch.equal(advantages_RT != 0, mask_RT.bool())
    torch.testing.assert_close(advantages_RT[3], torch.tensor([0.0, 1.0, 1.0]) * expected[3], rtol=0, atol=1e-5)


def test_another_trainer_is_told_what_is_missing() -> None:
    rewards_RT, mask_RT = batch([1.0], [1])
    with pytest.raises(ValueError, match=r"trainer\.v1\.trainer_mode=axpo_sync"):
        compute_axpo_advantage(rewards_RT, mask_RT, np.array(["a"], dtype=object), CONFIG)


def test_a_batch_other_than_announced_is_refused() -> None:
    rewards_RT, mask_RT = batch([1.0, 0.0], [1, 1])
    with announced([None]), pytest.raises(ValueError, match="got 2 rows, expected the 1 announced"):
        compute_axpo_advantage(rewards_RT, mask_RT, np.array(["a", "a"], dtype=object), CONFIG)


@pytest.mark.parametrize("penalty", [0.05, 0.1, 0.2, 0.3])
def test_a_threshold_below_one_is_held_against_the_reward_itself_not_its_float32(penalty: float) -> None:
    # rewards.md: with a tool penalty the threshold is one less the penalty. The right continuation earns exactly that
    right = 1.0 - penalty
    rewards_RT, mask_RT = batch([0.0, 1.0, right, 0.0], [1, 1, 1, 1])
    rows = [
        row("a", 0, 0.0),
        row("a", 1, 1.0),
        row("a", 2, right, source=0),
        row("a", 3, 0.0, source=0),
    ]
    axpo = {"num_continuations": 2, "correct_threshold": right}
    config = OmegaConf.merge(CONFIG, {"norm_adv_by_std_in_grpo": False, "axpo": axpo})
    with announced(rows) as announcement:
        compute_axpo_advantage(rewards_RT, mask_RT, np.array(["a"] * 4, dtype=object), config)
    assert announcement.advantages_R[0] == 0.0  # R = 1 among (1, 1)


def test_a_reward_that_verl_changed_on_its_way_is_what_counts() -> None:
    rewards_RT, mask_RT = batch([0.5, 1.0], [1, 1])
    rows = [row("a", 0, 0.0), row("a", 1, 1.0)]
    config = OmegaConf.merge(CONFIG, {"norm_adv_by_std_in_grpo": False})
    with announced(rows) as announcement:
        compute_axpo_advantage(rewards_RT, mask_RT, np.array(["a"] * 2, dtype=object), config)
    torch.testing.assert_close(announcement.advantages_R, torch.tensor([-0.25, 0.25]))
