"""The command: exit statuses, and words instead of tracebacks."""

import json
import sys
from pathlib import Path

import pytest

from verl_axpo import cli, doctor
from verl_axpo.report.viewer import split_at_call
from verl_axpo.trace import TrajectoryRecord, read_step


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command as the shell would; its exit status."""
    monkeypatch.setattr(sys, "argv", ["verl-axpo", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    return int(exit_info.value.code or 0)


def test_audit_of_a_faithful_run_succeeds(
    trace_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "audit", str(trace_dir.parent)) == 0  # a run's folder will do
    assert "3 steps, " in capsys.readouterr().out


def test_audit_of_a_faulty_run_fails_and_says_where(
    trace_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trace_dir / "step_000001.jsonl"
    lines = [json.loads(line) for line in path.open()]
    lines[0]["advantage"] += 1
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert call(monkeypatch, "audit", str(trace_dir)) == cli.FINDING
    assert "step 1, q1a/0, advantages: expected" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("audit", "nowhere"), "expected a folder with step_*.jsonl"),
        (("view", "TRACE", "--step", "9"), "steps there: 1 to 3"),
        (("view", "TRACE", "--step", "1", "--uid", "q9"), "questions there: q1a"),
        (("report", "nowhere"), "expected a run's folder"),
        (("report", "a", "b"), "add --out DIR"),
    ],
)
def test_a_users_mistake_prints_its_fix(
    arguments: tuple[str, ...],
    words: str,
    trace_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, *(str(trace_dir) if one == "TRACE" else one for one in arguments)) == cli.MISTAKE
    output = capsys.readouterr()
    assert words in output.out.replace("\n", " ")
    assert "Traceback" not in output.out + output.err


def test_view_shows_a_step_and_a_question(
    trace_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = next(one for one in read_step(trace_dir, 1).records if one.selected)
    assert call(monkeypatch, "view", str(trace_dir), "--step", "1") == 0
    assert f"session {source.session}" in capsys.readouterr().out
    assert call(monkeypatch, "view", str(trace_dir), "--step", "1", "--uid", source.uid) == 0
    output = capsys.readouterr().out
    assert f"of rollout {source.session}" in output
    assert f"recovery {source.recovery}" in output
    assert "image_zoom_in(bbox_2d=[0, 0, 9, 9])" in output


def test_the_prefix_in_the_text_ends_with_the_call_after_the_thinking(trace_dir: Path) -> None:
    record = next(one for one in read_step(trace_dir, 1).records if one.prefix_len is not None)
    values = {name: getattr(record, name) for name in TrajectoryRecord.__slots__}
    text = "is <tool_call> right?</think>\n<tool_call>\n{}\n</tool_call>"
    prefix, rest = split_at_call(TrajectoryRecord(**values | {"text": text}))
    assert prefix == "is <tool_call> right?</think>\n<tool_call>"
    assert rest == "\n{}\n</tool_call>"


def test_report_writes_into_the_runs_folder(
    trace_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "report", str(trace_dir.parent), "--title", "Tiny") == 0
    assert (trace_dir.parent / "report.md").read_text().startswith("# Tiny\n")
    assert "report.html" in capsys.readouterr().out


def test_doctor_prints_each_fix_and_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    good = doctor.Finding(name="python", found="3.11", ok=True)
    bad = doctor.Finding(name="vllm", found="not installed", ok=False, fix="install it")
    monkeypatch.setattr(doctor, "examine", lambda: iter((good, bad)))
    assert call(monkeypatch, "doctor") == cli.FINDING
    assert " ".join(capsys.readouterr().out.split()) == "ok python: 3.11 fix vllm: not installed install it"
    monkeypatch.setattr(doctor, "examine", lambda: iter((good,)))
    assert call(monkeypatch, "doctor") == 0
