"""The demonstration of `examples/` on fixed seeds: GRPO forgets the tool, AXPO learns it."""

import runpy
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
DEMO = runpy.run_path(str(Path(__file__).parents[3] / "examples" / "thinking_acting_gap.py"))
STEPS = DEMO["STEPS"]


@pytest.mark.parametrize("seed", [0, 1])
def test_grpo_forgets_the_tool_and_axpo_learns_it(seed: int) -> None:
    grpo, twice, axpo = (DEMO["train"](name, seed, STEPS) for name in ("GRPO", "GRPO, rollouts x2", "AXPO (+25 %)"))
    assert grpo[0].tolist() == axpo[0].tolist() == pytest.approx([0.29, 0.29 * 0.15 + 0.71 * 0.35])
    assert grpo[-1, 0] < 0.05
    assert twice[-1, 0] < 0.05
    assert grpo[-1, 1] == pytest.approx(0.35, abs=0.02)  # what answering at once is worth
    assert axpo[-1, 0] > 0.9
    assert axpo[-1, 1] > 0.8


def test_each_half_of_the_algorithm_is_needed() -> None:
    axpo, no_credit, merged = (
        DEMO["train"](name, 0, STEPS)[-1, 0]
        for name in ("AXPO (+25 %)", "AXPO, no prefix credit", "AXPO, merged groups")
    )
    assert merged < 0.05  # whole continuations among the group's rollouts: as GRPO
    assert merged < no_credit < axpo - 0.1


def test_grpo_needs_no_help_when_answering_hardly_works() -> None:
    assert DEMO["train"]("GRPO, answer right 10%", 0, STEPS)[-1, 0] > 0.9
