"""Where a run stands on the map, and Proposition 1 on a trace, by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.trace.conftest import B, K, N, make_step
from verl_axpo.core.config import AxpoConfig
from verl_axpo.report.coverage import Tries, coverage, covered, fresh, prefixes, tokens_per_recovery
from verl_axpo.report.runs import Run
from verl_axpo.report.standing import AXPO_BORDER, GRPO_BORDER, standing_table, start, verdict
from verl_axpo.report.study import tokens_of
from verl_axpo.trace import TraceWriter, read_step


def run_with(*steps: tuple[float, float, float, float]) -> Run:
    names = ("tool_correct", "tool_wrong", "no_tool_correct", "no_tool_wrong")
    metrics = {
        at: {f"axpo/outcome/{name}": share for name, share in zip(names, shares, strict=True)}
        for at, shares in enumerate(steps, 1)
    }
    return Run(path=Path("x"), arm="axpo", seed=0, metrics=metrics, heldout={})


def test_the_first_steps_say_where_a_run_stands_on_the_map() -> None:
    run = run_with((0.1, 0.2, 0.3, 0.4), (0.1, 0.1, 0.4, 0.4), (0.1, 0.3, 0.2, 0.4), (1.0, 0.0, 0.0, 0.0))
    call, answer = start(run)  # the fourth step does not count
    assert call == pytest.approx(0.3 / 0.9)
    assert answer == pytest.approx(0.9 / 2.1)
    (row,) = standing_table([run]).rows
    assert row["ratio"] == pytest.approx(0.3 / 0.9 * 2.1 / 0.9)
    assert row["on the map"] == "GRPO learns the tool too"


def test_the_verdicts_between_the_borders() -> None:
    assert verdict(GRPO_BORDER) == "GRPO learns the tool too"
    assert verdict((GRPO_BORDER + AXPO_BORDER) / 2) == "AXPO learns the tool, GRPO gives it up"
    assert verdict(AXPO_BORDER - 0.01).startswith("neither learns the tool")


def test_a_run_without_outcomes_has_no_place_on_the_map() -> None:
    assert not standing_table([run_with(), run_with((0.0, 0.0, 0.5, 0.5))]).rows


def test_coverage_by_hand() -> None:
    tries = [Tries(right=1, total=4, tokens=40), Tries(right=0, total=4, tokens=80)]
    assert covered(tries, 1).value == pytest.approx(1 / 8)
    assert covered(tries, 2).value == pytest.approx(1 / 4)  # of the first: 1 - C(3, 2) / C(4, 2) = 1 / 2
    assert covered(tries, 4).value == pytest.approx(1 / 2)
    assert tokens_per_recovery(tries, 2) == pytest.approx((20 + 40) / 0.5)
    assert tokens_per_recovery(tries, 1) == pytest.approx((10 + 20) / 0.25)


def test_coverage_of_a_trace(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        writer.write_step(*make_step(1, AxpoConfig(num_continuations=K)))
    step = read_step(tmp_path, 1)
    resampled, drawn = prefixes(step), fresh(step)
    assert [each.total for each in drawn] == [N] * B
    assert {each.total for each in resampled} == {K}
    recovered = [record.recovery for record in step.records if record.selected]
    assert sorted(int(each.right > 0) for each in resampled) == sorted(recovered)
    table = coverage(tmp_path)
    assert [row["k"] for row in table.rows] == [1, K]
    assert table.rows[-1]["resampling %"].value == pytest.approx(sum(recovered) / len(recovered))


def test_coverage_next_to_rollouts_that_were_sampled_again(tmp_path: Path) -> None:
    """11 generated tokens each; a continuation was given 4 of them, a rollout anew none."""
    for prefix in ("fixed", "scratch"):
        with TraceWriter(tmp_path / prefix) as writer:
            records, summary = make_step(1, AxpoConfig(num_continuations=K, prefix=prefix))
            writer.write_step([replace(record, turn_lengths=(9, 2)) for record in records], summary)
    table = coverage(tmp_path / "fixed", tmp_path / "scratch")
    given, anew = (prefixes(read_step(tmp_path / name, 1)) for name in ("fixed", "scratch"))
    assert [each.tokens for each in (given[0], anew[0])] == [K * 7, K * 11]
    assert tokens_of(tmp_path / "fixed") == {"rollouts": N * B * 11, "resamples": len(given) * K * 7}
    assert tokens_of(tmp_path / "scratch") == {"rollouts": N * B * 11, "resamples": len(anew) * K * 11}
    right = sum(each.right > 0 for each in anew)
    assert table.rows[-1]["fresh, sampled %"].value == pytest.approx(right / len(anew))
    with pytest.raises(ValueError, match=r"was not run with algorithm\.axpo\.prefix=scratch"):
        coverage(tmp_path / "fixed", tmp_path / "fixed")


def test_a_run_of_grpo_has_no_coverage(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        writer.write_step(*make_step(1, AxpoConfig(budget=0)))
    with pytest.raises(ValueError, match="no prefix was resampled"):
        coverage(tmp_path)
