"""A command with a progress bar: what the bar reads from the log, and what Ctrl-C does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from verl_axpo.progress import BUSY, causes, progress_of, run


@pytest.mark.parametrize(
    ("text", "total", "expected"),
    [
        ("nothing yet\n", None, (0, None)),
        ("Training Progress:  40%|####      | 12/30 [01:02<01:33]", None, (12, 30)),
        ("Training Progress:   3%|#  | 1/30 [..]\rTraining Progress:   6%|#  | 2/30 [..]", None, (2, 30)),
        ("Epoch 1/1000:  25%|##        | 128/512 [00:50<02:31]", 1080, (128, 1080)),
        ("Epoch 3/1000:   2%|          | 10/512 [00:50<02:31]", 1080, (1034, 1080)),  # 2 x 512 + 10
    ],
)
def test_the_bar_reads_progress_from_the_log(
    tmp_path: Path, text: str, total: int | None, expected: tuple[int, int | None]
) -> None:
    log = tmp_path / "log"
    log.write_text("Training Progress: 100%|##########| 7/7 [of an earlier start]\n")
    start = log.stat().st_size
    with log.open("a") as file:
        file.write(text)
    assert next(progress_of(log, start, total)) == expected


def test_a_failure_shows_the_lines_that_name_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    status = run("it", log, [sys.executable, "-c", "print('noise'); raise ValueError('no such model')"])
    assert status == 1
    assert causes(log, 0) == ["ValueError: no such model"]


DEATH = "the run ended because vLLM's engine of replica 0 died: EngineCore_DP0 (pid 7) killed by SIGKILL"


@pytest.mark.parametrize(
    "lines",
    [
        f"axpo: {DEATH}\nnoise\n",
        f"Error executing job with overrides: ['a=b']\naxpo: {DEATH}\n"
        "\x1b[36m(vLLMHttpServer pid=9)\x1b[0m EngineDeadError: see above\n",
    ],
)
def test_the_screen_shows_the_death_and_not_what_followed_from_it(tmp_path: Path, lines: str) -> None:
    log = tmp_path / "log"
    log.write_text(lines)
    assert causes(log, 0) == [DEATH]


def test_hydras_line_is_no_cause(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Error executing job with overrides: ['a=b']\nValueError: no such model\n")
    assert causes(log, 0) == ["ValueError: no such model"]


COMMAND = """
import os, pathlib, time
try:
    pathlib.Path("command").write_text(str(os.getpid()))  # a signal may come right after it
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.5)
    pathlib.Path("cleaned").touch()
"""

WRAPPER = (
    "import sys, pathlib; from verl_axpo.progress import run; sys.exit(run('it', pathlib.Path('log'), sys.argv[1:]))"
)


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """`start(*words)`: the wrapper around `COMMAND`, started by `words`, once the command runs."""

    def wrapped(*words: str) -> subprocess.Popen[str]:
        wrapper = [sys.executable, "-c", WRAPPER]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        process = subprocess.Popen(
            [*words, *wrapper, sys.executable, "-c", COMMAND], cwd=tmp_path, env=environment, text=True,
            stdout=subprocess.PIPE, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # these tests may run under nohup
        )  # fmt: skip
        while not (tmp_path / "command").exists() or not (tmp_path / "command").read_text():
            assert process.poll() is None
            time.sleep(0.05)
        return process

    return wrapped


def wrapper_in(process: subprocess.Popen[str]) -> psutil.Process:
    return next(child for child in psutil.Process(process.pid).children(recursive=True) if WRAPPER in child.cmdline())


def test_ctrl_c_reaches_the_command_once_and_waits_for_its_cleaning_up(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start()
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again to go on from here" in output
    assert (tmp_path / "cleaned").exists()


@pytest.mark.parametrize("kill", ["terminal", "wrapper", "recipe"])
def test_the_command_ends_with_its_wrapper(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, kill: str
) -> None:
    process = start("bash", "-c", '"$@"; exit $?', "recipe")
    command = psutil.Process(int((tmp_path / "command").read_text()))
    if kill == "terminal":
        os.killpg(process.pid, signal.SIGHUP)
    else:
        (wrapper_in(process) if kill == "wrapper" else process).send_signal(signal.SIGKILL)
    command.wait(timeout=30)
    assert (tmp_path / "cleaned").exists()
    process.communicate(timeout=30)


def test_under_nohup_the_command_continues_without_a_terminal(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start("nohup", "bash", "-c", '"$@"; exit $?', "recipe")
    command = psutil.Process(int((tmp_path / "command").read_text()))
    os.killpg(process.pid, signal.SIGHUP)
    with pytest.raises(psutil.TimeoutExpired):
        command.wait(timeout=2)
    wrapper_in(process).send_signal(signal.SIGINT)
    process.communicate(timeout=30)


def test_a_second_start_is_refused_and_the_first_is_named(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start()
    assert run("it", tmp_path / "log", [sys.executable, "-c", "print('a second writer')"]) == BUSY
    said = " ".join(capsys.readouterr().out.split())
    assert f"log is written by another run (pid {(tmp_path / 'command').read_text()})" in said
    assert "a second writer" not in (tmp_path / "log").read_text()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert run("it", tmp_path / "log", [sys.executable, "-c", "print('a second writer')"]) == 0
