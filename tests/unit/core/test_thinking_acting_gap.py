"""The demonstration of `examples/` on fixed seeds: GRPO forgets the tool, AXPO learns it."""

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")
DEMO = runpy.run_path(str(Path(__file__).parents[3] / "examples" / "thinking_acting_gap.py"))


def train(name: str, seed: int) -> np.ndarray:
    return DEMO["train"](DEMO["ARMS"][name], seed)


@pytest.mark.parametrize("seed", [0, 1])
def test_grpo_forgets_the_tool_and_axpo_learns_it(seed: int) -> None:
    grpo, twice, axpo = (train(name, seed) for name in ("GRPO", "GRPO, rollouts x2", "AXPO (+25 %)"))
    assert grpo[0].tolist() == axpo[0].tolist() == pytest.approx([0.29, 0.29 * 0.15 + 0.71 * 0.35])
    assert grpo[-1, 0] < 0.05
    assert twice[-1, 0] < 0.05
    assert grpo[-1, 1] == pytest.approx(0.35, abs=0.02)  # what answering at once is worth
    assert axpo[-1, 0] > 0.9
    assert axpo[-1, 1] > 0.8


def test_each_half_of_the_algorithm_is_needed() -> None:
    axpo, no_credit, merged = (
        train(name, 0)[-1, 0] for name in ("AXPO (+25 %)", "AXPO, no prefix credit", "AXPO, merged groups")
    )
    assert merged < 0.05  # whole continuations among the group's rollouts: as GRPO
    assert merged < no_credit < axpo - 0.1


def test_grpo_needs_no_help_when_answering_hardly_works() -> None:
    assert train("GRPO, answer right 10%", 0)[-1, 0] > 0.9


def test_a_border_lies_between_the_calls_around_it() -> None:
    border, calls = DEMO["border"], DEMO["CALLS"]
    use = [0.0] * 2 + [0.25, 0.75] + [1.0] * 4  # half way between the third and the fourth
    assert border(use) == pytest.approx((calls[2] + calls[3]) / 2)
    assert border([0.0] * 8) is None
    assert border([1.0] * 8) == calls[0]
    assert border([1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]) is None  # learnt below, not at the highest: no border


@pytest.mark.parametrize(
    ("answer", "call", "grpo_learns", "axpo_learns"), [(0.4, 0.2, False, True), (0.3, 0.3, True, True)]
)
def test_two_points_of_the_map(answer: float, call: float, grpo_learns: bool, axpo_learns: bool) -> None:
    for arm, learns in zip(DEMO["MAPPED"].values(), (grpo_learns, axpo_learns), strict=True):
        history = DEMO["train"](replace(arm, answer_success=answer, call_success=call), 0)
        assert (history[-1, 0] > DEMO["LEARNT"]) == learns
