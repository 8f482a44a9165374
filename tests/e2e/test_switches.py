"""The ablation switches on the real stack: one step each, and the audit recomputes it by the switched rules.

It takes seven minutes, most of them start-up, so it is not part of every run:
`bash tests/run.sh tests/e2e/test_switches.py`.
"""

from pathlib import Path

import pytest

from tests.e2e.conftest import MainPpo
from verl_axpo.audit import audit
from verl_axpo.trace.reader import read_step

SWITCHES = {
    "no prefix credit": ("prefix_credit=false", "uncertainty=random"),
    "merged groups": ("advantage_group=merged",),
    "from scratch": ("prefix=scratch",),
    "no-tool subgroups, from scratch": ("target=no_tool", "prefix=scratch", "uncertainty=random"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SWITCHES)
def test_a_step_with_the_switch_passes_the_audit_of_its_rules(name: str, main_ppo: MainPpo, tmp_path: Path) -> None:
    switches = [f"algorithm.axpo.{setting}" for setting in SWITCHES[name]]
    # A threshold that nothing reaches makes every subgroup all-wrong, so that each switch has something to act on
    everything_fails = ["algorithm.axpo.correct_threshold=2", "algorithm.axpo.seed=0"]
    trace = tmp_path / "trace"
    quick = ["trainer.val_before_train=false", "trainer.test_freq=-1", f"algorithm.axpo.trace_dir={trace}"]
    main_ppo("run", "--config-name", "tiny_rl", *switches, *everything_fails, *quick)
    result = audit(trace)
    assert (result.steps, result.differences) == (1, ())
    records = read_step(trace, 1).records
    sources = [record for record in records if record.selected]
    continuations = [record for record in records if record.source_session is not None]
    assert len(sources) == 8  # floor(0.25 * 16 * 8 / 4) prefixes: the budget is used up
    assert len(continuations) == 32
    if name == "no prefix credit":
        assert not any(any(record.response_mask) or record.advantage for record in sources)
        assert not any(any(record.response_mask[: record.prefix_len]) for record in continuations)
    if name == "merged groups":
        assert all(all(record.response_mask[: record.prefix_len]) for record in (*sources, *continuations))
    if name == "from scratch":
        assert all(record.tool_calls for record in sources)
        assert all(
            record.response_mask[0] for record in continuations
        )  # trained from the first token on, because there is no prefix
    if name.startswith("no-tool"):
        assert not any(record.tool_calls for record in sources)
        assert len({tuple(record.response_ids) for record in continuations}) > 1
