"""The end of a run: the report is made in any case, and the exit status is the audit's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.unit.trace.conftest import K, make_step
from verl_axpo.cli import FINDING
from verl_axpo.core.config import AxpoConfig
from verl_axpo.report.heldout import read_heldout
from verl_axpo.report.runs import merge_metrics
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
        row = {"uid": "v_0_0", "score": 0.9, "acc": 1.0, "uses_tool": 1.0, "infra_failure": 0.0}
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


@pytest.mark.parametrize("validated", [("0",), ("1",), ()], ids=["before only", "after only", "not at all"])
def test_a_run_that_was_told_not_to_validate_ends_with_report_and_audit(
    finished: Path, validated: tuple[str, ...]
) -> None:
    """`trainer.val_before_train=false`, `trainer.test_freq=-1`; heldout.json is of an earlier end of the run."""
    (finished / "heldout.json").write_text(json.dumps({"before": {"questions": []}, "after": {"questions": []}}))
    for dump in (finished / "heldout").iterdir():
        if dump.stem not in validated:
            dump.unlink()
    reported = verl_axpo("report", str(finished), "--arm", "axpo")
    assert reported.returncode == 0, reported.stdout + reported.stderr
    assert (finished / "report.md").exists()
    stages = {"0": "before", "1": "after"}
    assert set(read_heldout(finished)) == {stages[step] for step in validated}
    assert reported.stdout.count("no validation") == 2 - len(validated)


def test_only_the_metrics_line_that_a_kill_tore_is_skipped(finished: Path) -> None:
    with (finished / "metrics_1.jsonl").open("a") as file:
        file.write('{"step": 2, "da')
    assert merge_metrics(finished) == 1
