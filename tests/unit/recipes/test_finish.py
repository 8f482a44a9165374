"""What ends a run: its report is made whatever the audit finds, and the exit status is the audit's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.unit.trace.conftest import K, make_step
from verl_axpo.cli import FINDING
from verl_axpo.core.config import AxpoConfig
from verl_axpo.trace import TraceWriter, store_image


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """What verl leaves of a run of one step; in its trace the advantage of a resample, the last row, is off."""
    image = store_image(tmp_path / "trace", Image.new("RGB", (4, 3)))
    with TraceWriter(tmp_path / "trace") as writer:
        writer.write_step(*make_step(1, AxpoConfig(num_continuations=K), image))
    records = tmp_path / "trace/step_000001.jsonl"
    *others, last = records.read_text().splitlines()
    changed = {**json.loads(last), "advantage": 9.0}
    records.write_text("\n".join([*others, json.dumps(changed)]) + "\n")
    for folder in ("checkpoints", "heldout", "world", "sft"):
        (tmp_path / folder).mkdir()
    (tmp_path / "checkpoints/latest_checkpointed_iteration.txt").write_text("1")
    for step in (0, 1):
        row = {"uid": "v_0_0", "score": 1.0, "uses_tool": 1.0, "infra_failure": 0.0}
        (tmp_path / f"heldout/{step}.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "metrics_1.jsonl").write_text(json.dumps({"step": 1, "data": {"critic/score/mean": 0.5}}) + "\n")
    return tmp_path


def verl_axpo(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from verl_axpo.cli import main; main()", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_a_run_is_reported_and_then_audited(finished: Path) -> None:
    """As recipes/rl.sh ends."""
    reported = verl_axpo("report", str(finished), "--arm", "axpo", "--title", "axpo, 1 steps")
    assert reported.returncode == 0, reported.stdout + reported.stderr
    assert "axpo, 1 steps" in (finished / "report.md").read_text()
    audited = verl_axpo("audit", str(finished))
    assert audited.returncode == FINDING, audited.stderr
    assert "1 differences" in audited.stdout
