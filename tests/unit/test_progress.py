"""A noisy command behind one bar: what is read from its log, and what Ctrl-C does."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from verl_axpo.progress import causes, progress_of, run


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
def test_how_far_it_is(tmp_path: Path, text: str, total: int | None, expected: tuple[int, int | None]) -> None:
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


def test_ctrl_c_reaches_the_command_once_and_waits_for_its_cleaning_up(tmp_path: Path) -> None:
    script = (
        "import pathlib, time\n"
        "pathlib.Path('started').touch()\n"
        "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    time.sleep(0.5); pathlib.Path('cleaned').touch()\n"
    )
    command = [sys.executable, "-m", "verl_axpo.progress", "--title", "it", "--log", "log", "--"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [*command, sys.executable, "-c", script], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    while not (tmp_path / "started").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again to go on from here" in output
    assert (tmp_path / "cleaned").exists()
