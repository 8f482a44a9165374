"""`verl-axpo eval`: what it prints, writes and refuses."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.unit.agent.scripted import MODEL, ScriptedServer
from tests.unit.eval import colours
from verl_axpo.eval.cli import app

Serve = Callable[..., ScriptedServer]
REGISTRY = colours.__name__


def cli(*arguments: str, **kwargs: Any) -> tuple[int, str]:
    """(exit status, output); what the command raises is raised."""
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False, env={"COLUMNS": "200"}, **kwargs)
    return done.exit_code, done.output


def run(url: str, out: Path, *options: str) -> tuple[int, str]:
    fixed = ["--model", MODEL, "--base-url", url, "--out", str(out), "--registry", REGISTRY, "--retries", "0"]
    return cli("run", *fixed, "--response-tokens", "1000", *options)


def test_run_report_compare(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    before, after = tmp_path / "before", tmp_path / "after"
    status, output = run(server.url, before, "--no-agent", "--rollouts", "1")
    assert status == 0
    assert "Pass@1" in output
    assert "report.html" in output
    # without tools green never answers: its script begins with a call
    assert "| Pass@1 | 0.0 [0.0, 0.0] | 100.0 [100.0, 100.0] |" in (before / "report.md").read_text()
    status, _ = run(server.url, after, "--tools", "zoom", "--rollouts", "1")
    assert status == 0
    assert "| Pass@1 | 50.0 [0.0, 100.0] | 100.0 [100.0, 100.0] |" in (after / "report.md").read_text()

    (before / "report.html").unlink()
    status, output = cli("report", str(before), "--paper", "--title", "Mine")
    assert status == 0
    assert "paper's SFT+AXPO" in output
    assert "<title>Mine</title>" in (before / "report.html").read_text()

    status, output = cli("compare", str(before), str(after), "--out", str(tmp_path / "both"))
    assert status == 0
    assert "+50.0" in output
    assert "agent: there False, this run True" in output
    assert (tmp_path / "both" / "compare.md").exists()


def test_a_run_with_failures_says_so_and_exits_with_1(serve: Serve, tmp_path: Path) -> None:
    broken = serve(blue=[{"status": 400, "error": "no"}])
    status, output = run(broken.url, tmp_path / "out", "--tools", "zoom", "--benchmark", "cold", "--rollouts", "1")
    assert status == 1
    assert "1 of 2 rollouts failed for no fault of the policy" in output


def test_no_server_at_all_exits_with_1_and_names_it(tmp_path: Path) -> None:
    status, output = run("http://127.0.0.1:9/v1", tmp_path / "out", "--tools", "zoom")
    assert status == 1
    assert "stopped" in output
    assert "127.0.0.1:9" in output


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "got no --tools"),
        (["--tools", "nothing"], "expected a YAML file or one of"),
        (["--no-agent", "--source", "hot=x"], r"source: got \['hot'\]"),
        (["--no-agent", "--registry", "no.such.module"], "cannot be imported"),
        (["--no-agent", "--registry", "json"], "json has no"),
        (["--no-agent", "--dialect", "french"], r"choose from \['server', 'text'\]"),
        (["--no-agent", "--rollouts", "0"], "rollouts: got 0"),
        (["--no-agent", "--concurrency", "0"], "concurrency: got 0"),
    ],
)
def test_mistakes_are_told_with_what_was_expected(serve: Serve, tmp_path: Path, options: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        run(serve().url, tmp_path / "out", *options)


def test_a_folder_without_an_evaluation_exits_with_2_and_no_traceback(tmp_path: Path) -> None:
    line = [sys.executable, "-c", "from verl_axpo.cli import main; main()", "eval", "report", str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "expected the --out folder" in done.stdout.replace("\n", " ")
    assert "Traceback" not in done.stderr
