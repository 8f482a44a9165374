"""docs/metrics.md defines every `axpo/` metric that a step logs, and no other."""

import re
from pathlib import Path

import pytest

from tests.unit.trace.real import Step, follow, unpack
from verl_axpo.audit.metrics import NOT_IN_THE_TRACE

PAGE = Path(__file__).parents[3] / "docs/metrics.md"


@pytest.mark.parametrize("step_number", [1, 2])
def test_the_page_has_the_metrics_of_a_real_step(tmp_path: Path, step_number: int) -> None:
    step = Step.read(unpack(tmp_path), step_number)
    for line in step.lines:
        line["weight_versions"] = [0, 0]  # the trace is from before they were told
    follow(step)  # computes the metrics anew, by today's code
    logged = {*step.summary["metrics"], *NOT_IN_THE_TRACE}
    defined = re.findall(r"^\| `(axpo/[^`]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert len(defined) == len(set(defined))
    assert set(defined) == {re.sub("^axpo/tool/[^/]+/", "axpo/tool/NAME/", name) for name in logged}
