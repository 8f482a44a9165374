"""The audit's own advantages: equal to the trainer's, which are another implementation."""

import random
from typing import Any

import pytest

from verl_axpo.audit.advantages import advantages
from verl_axpo.core.advantage import row_advantages
from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Rollout, Status

SETTINGS: list[dict[str, Any]] = [{}, {"prefix_credit": False}, {"advantage_group": "merged"}, {"prefix": "scratch"}]


def group(rng: random.Random, uid: str, rewards: list[float]) -> list[Rollout]:
    """Six rollouts, of which the first is a source, and its three continuations; some of them infra failures."""

    def row(session: int, *, selected: bool = False, source: int | None = None) -> Rollout:
        status = rng.choice([Status.OK, Status.OK, Status.TRUNCATED, Status.INFRA_FAILURE])
        return Rollout(
            uid=uid, session=session, reward=rng.choice(rewards), uses_tool=True, source=source,
            status=Status.OK if selected else status,
        )  # fmt: skip

    return [row(0, selected=True), *(row(n) for n in range(1, 6)), *(row(6 + k, source=0) for k in range(3))]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("normalize_std", [True, False])
@pytest.mark.parametrize("rewards", [[0.0, 1.0], [1.0], [0.9], [0.1, 0.9, 0.95], [-1.0, 0.3, 1.0]])
def test_two_implementations_agree(settings: dict[str, Any], normalize_std: bool, rewards: list[float]) -> None:
    rng = random.Random(str((settings, normalize_std, rewards)))
    config = AxpoConfig(num_continuations=3, **settings)
    rows = [row for number in range(30) for row in group(rng, f"q{number}", rewards)]
    trained = row_advantages(rows, config, normalize_std=normalize_std).tolist()
    for row, (value, tolerance), other in zip(
        rows, advantages(rows, config, normalize_std=normalize_std), trained, strict=True
    ):
        assert abs(value - other) <= tolerance, row


def test_advantages_equal_those_worked_out_by_hand() -> None:
    rows = [Rollout(uid="q", session=n, reward=reward, uses_tool=True) for n, reward in enumerate([1.0, 0.0, 0.0, 0.0])]
    values = [value for value, _ in advantages(rows, AxpoConfig(), normalize_std=True)]
    # mean 1/4, unbiased variance (9/16 + 3/16) / 3 = 1/4
    assert values == pytest.approx([1.5, -0.5, -0.5, -0.5], abs=1e-5)
    assert advantages(rows[:1], AxpoConfig(), normalize_std=True) == [(0.0, 1e-6)]  # no peer


def test_rewards_that_add_up_exactly_leave_no_room() -> None:
    """A group that is all right has advantage 0; the rounding of 0.9 in float32 is divided by a std of nearly 0."""
    right = [Rollout(uid="q", session=n, reward=1.0, uses_tool=True) for n in range(8)]
    assert {tolerance for _, tolerance in advantages(right, AxpoConfig(), normalize_std=True)} == {1e-6}
