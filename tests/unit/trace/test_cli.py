"""The command line: exit statuses, and messages instead of tracebacks."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from verl_axpo import cli, doctor
from verl_axpo.report.viewer import split_at_call
from verl_axpo.trace import TraceWriter, TrajectoryRecord, read_step


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


def test_audit_with_a_missing_step_file_says_that_and_nothing_else(
    trace_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (trace_dir / "step_000002.jsonl").unlink()
    assert call(monkeypatch, "audit", str(trace_dir)) == cli.FINDING
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "difference step 2, files, files: expected whole files, found step_000002.jsonl is missing"
    assert len(lines) == 2


def test_audit_says_the_causes_first_and_in_few_lines(
    trace_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trace_dir / "step_000001.jsonl"
    rows = [json.loads(line) for line in path.open()]
    for row in rows:
        row["advantage"] += 1
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"reward": None}]))
    assert call(monkeypatch, "audit", str(trace_dir)) == cli.FINDING
    lines = capsys.readouterr().out.splitlines()
    assert "is damaged and left out" in lines[0]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert call(monkeypatch, "audit", str(trace_dir)) == cli.FINDING
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == cli.MOST_LINES + 2
    assert "more of these" in lines[-2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("audit", "nowhere"), "expected a folder with step_*.jsonl"),
        (("view", "TRACE", "--step", "9"), "steps there: 1 to 3"),
        (
            ("view", "TRACE", "--step", "1", "--uid", "x9"),
            "got uid x9, which step 1 does not have; give a row from 1 to 6, a uid",
        ),
        (("view", "TRACE", "--step", "1", "--uid", "q1"), "which begins 6 uids of step 1"),
        (("view", "TRACE", "--step", "1", "--uid", "7"), "give a row from 1 to 6"),
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
    assert (
        call(monkeypatch, *(str(trace_dir) if argument == "TRACE" else argument for argument in arguments))
        == cli.MISTAKE
    )
    output = capsys.readouterr()
    assert words in output.out.replace("\n", " ")
    assert "Traceback" not in output.out + output.err


def test_view_shows_a_step_and_a_question(
    trace_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = next(record for record in read_step(trace_dir, 1).records if record.selected)
    assert call(monkeypatch, "view", str(trace_dir), "--step", "1") == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.split()[1] == source.uid)
    assert f"  {source.session}: {'yes' if source.recovery else 'no'}  " in line
    assert call(monkeypatch, "view", str(trace_dir), "--step", "1", "--uid", source.uid) == 0
    output = capsys.readouterr().out
    assert f"of rollout {source.session}" in output
    assert f"recovery {source.recovery}" in output
    assert "image_zoom_in(bbox_2d=[0, 0, 9, 9])" in output


def test_view_takes_the_uid_that_it_shows(
    tmp_path: Path, make: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """uids are 36 characters long in a run without a seed: no narrow terminal may cut what --uid needs."""
    records, summary = make(1)
    long = {
        uid: f"{place}f1c9a52-7b1e-4c8e-9d55-0a3f6f2b{place}e4{uid[-1]}" for place, uid in enumerate(summary.questions)
    }
    with TraceWriter(tmp_path) as writer:
        questions = [long[uid] for uid in summary.questions]
        writer.write_step(
            [replace(record, uid=long[record.uid], question=f"about {record.uid}") for record in records],
            replace(summary, questions=questions, candidates=[], selected=[]),
        )
    for arguments in ((), ("--uid", "3"), ("--uid", questions[2]), ("--uid", questions[2][:5])):
        monkeypatch.setattr(cli, "console", Console(width=60))
        monkeypatch.setattr(sys, "argv", ["verl-axpo", "view", str(tmp_path), "--step", "1", *arguments])
        with pytest.raises(SystemExit) as exit_info:
            cli.main()
        assert not exit_info.value.code
        shown = capsys.readouterr().out
        if arguments:
            assert "about q1c" in shown
        else:
            _, *lines = shown.splitlines()
            assert [line.split()[1] for line in lines] == questions  # whole, and a line for each question
            assert max(map(len, lines)) == 60


def test_what_a_policy_wrote_is_not_obeyed_by_the_terminal(
    tmp_path: Path, make: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    attack = "\x1b]0;title\x07\x1b[2J[red]text[/]\u202eback\x9b1m\rstart"
    records, summary = make(1)
    with TraceWriter(tmp_path) as writer:
        writer.write_step([replace(record, question=attack, text=attack) for record in records], summary)
    for arguments in ((), ("--uid", "1")):
        assert call(monkeypatch, "view", str(tmp_path), "--step", "1", *arguments) == 0
        shown = capsys.readouterr().out
        assert "[red]text[/]" in shown
        assert not set(shown) & set("\x1b\x07\u202e\x9b\r")


def test_the_prefix_in_the_text_ends_with_the_call_after_the_thinking(trace_dir: Path) -> None:
    record = next(record for record in read_step(trace_dir, 1).records if record.prefix_len is not None)
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


def test_commands_that_print_tables_print_json(
    trace_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "view", str(trace_dir), "--step", "1", "--json") == 0
    questions = json.loads(capsys.readouterr().out)
    assert [row["row"] for row in questions] == [1, 2, 3, 4, 5, 6]
    assert call(monkeypatch, "view", str(trace_dir), "--step", "1", "--uid", "1", "--json") == 0
    records = json.loads(capsys.readouterr().out)
    assert {record["uid"] for record in records} == {questions[0]["uid"]}
    assert call(monkeypatch, "audit", str(trace_dir), "--json") == 0
    audited = json.loads(capsys.readouterr().out)
    assert (audited["steps"], audited["differences"]) == (3, [])
    assert call(monkeypatch, "report", str(trace_dir.parent), "--json") == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    assert tables["runs"][0]["steps"] == 3
    assert tables == json.loads((trace_dir.parent / "report.json").read_text())["tables"]
