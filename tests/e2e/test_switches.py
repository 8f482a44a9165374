"""The ablation switches on the real stack: one step each, and the audit recomputes it by the switched rules.

Seven minutes of start-up for four steps, so not part of every run: `bash tests/run.sh tests/e2e/test_switches.py`.
"""

from pathlib import Path

import pytest

from tests.e2e.conftest import MainPpo
from verl_axpo.audit import audit
from verl_axpo.core.types import Kind
from verl_axpo.trace.reader import read_step

SWITCHES = {
    "no prefix credit": ("prefix_credit=false", "uncertainty=random"),
    "merged groups": ("advantage_group=merged",),
    "from scratch": ("prefix=scratch",),
    "no-tool subgroups, from scratch": ("target=no_tool", "prefix=scratch", "uncertainty=random"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SWITCHES)
def test_a_step_with_the_switch_is_what_it_says(name: str, main_ppo: MainPpo, tmp_path: Path) -> None:
    switches = [f"algorithm.axpo.{one}" for one in SWITCHES[name]]
    # A threshold that nothing reaches makes every subgroup all-wrong, so that each switch has something to act on
    everything_fails = ["algorithm.axpo.correct_threshold=2", "algorithm.axpo.seed=0"]
    trace = tmp_path / "trace"
    quick = ["trainer.val_before_train=false", "trainer.test_freq=-1", f"algorithm.axpo.trace_dir={trace}"]
    main_ppo("run", "--config-name", "tiny_rl", *switches, *everything_fails, *quick)
    result = audit(trace)
    assert (result.steps, result.differences) == (1, ())
    records = read_step(trace, 1).records
    sources = [one for one in records if one.selected]
    resamples = [one for one in records if one.kind is Kind.RESAMPLE]
    assert len(sources) == 8  # floor(0.25 * 16 * 8 / 4) prefixes: the budget is used up
    assert len(resamples) == 32
    if name == "no prefix credit":
        assert not any(any(one.response_mask) or one.advantage for one in sources)
        assert not any(any(one.response_mask[: one.prefix_len]) for one in resamples)
    if name == "merged groups":
        assert all(all(one.response_mask[: one.prefix_len]) for one in (*sources, *resamples))
    if name == "from scratch":
        assert all(one.tool_calls for one in sources)
        assert all(one.response_mask[0] for one in resamples)  # trained from the first token on, not behind a prefix
    if name.startswith("no-tool"):
        assert not any(one.tool_calls for one in sources)
        assert len({tuple(one.response_ids) for one in resamples}) > 1
