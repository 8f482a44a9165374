"""Run a noisy command quietly: its output -> a log file, its progress -> one bar, its error -> the screen.

verl, Ray and vLLM write thousands of lines. A person wants to see how far the command is, how long it takes and, when
it fails, the line that says why and where the rest is.

The command ends with this process: Ctrl-C, a closed terminal and its death, SIGKILL included, all interrupt the
command. `nohup`, tmux and screen keep both going. A log has one writer: a second start is refused for as long as any
process of the first start lives.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from verl_axpo.lock import take_lock

# tqdm's bars: "Training Progress:  40%|####  | 12/30 [01:02<01:33, ...]", "Epoch 1/1:  25%|##  | 60/240 [...]"
_BAR = re.compile(rb"(?:Training Progress|Epoch (\d+)/)[^\r\n|]*\|[^\r\n|]*\|\s*(\d+)/(\d+)")
_CAUSE = re.compile(
    r"^(?:\x1b\[\d+m)?(?:\(.*?\))?(?:\x1b\[0m)?\s*([\w.]*(?:Error|Exception|Failure|Interrupt)\b(?! executing job).*)$"
)
_LAST_WORDS = re.compile(r"^axpo: (the run ended because .*)$")  # of verl_axpo/integration/watch.py
Bars = Iterator[tuple[int, int | None]]  # done, and of how many if that is known
POLL_S = 0.5
LINE_EVERY_S = 60.0  # without a terminal there is no bar, but a sign of life
TAIL_BYTES = 200_000  # of the log, read back for the cause of a failure
STOP_S = 30.0  # for a command to end after Ctrl-C, before it is killed
BUSY = 2  # exit status where the log has another writer, as of a command line that cannot be run
# A shell that outlives us: it waits until our end of the pipe closes, however we end, and does what `_stop` does
GUARD = f"""
read -r _
kill -s INT -- "-$1"
for _ in $(seq {STOP_S:.0f}); do sleep 1; kill -s 0 -- "-$1" || exit; done
kill -s KILL -- "-$1"
"""


def run(title: str, log: Path, command: list[str], total: int | None = None) -> int:
    """Run `command` with its output in `log` (appended). Ctrl-C reaches the command, which may clean up.

    Args:
        total: steps of the whole, where the command's own bar shows an epoch.

    Returns:
        its exit status, 130 when it was interrupted.
    """
    console = Console()
    log.parent.mkdir(parents=True, exist_ok=True)
    _interrupt_on(signal.SIGTERM, signal.SIGHUP)
    recipes = _recipes()  # before the command, so that none can be gone unseen
    with log.open("ab") as output:
        if not take_lock(output):  # the command, and all that it starts, have the file open and keep the lock
            console.print(f"{title}: {log} is written by {_writers(log)}; wait for its end, or stop it", markup=False)
            return BUSY
        if not console.is_terminal:
            console.print(f"{title} ... (log: {log})")
        start = log.stat().st_size
        # Its own process group: Ctrl-C comes through `_stop`, once, instead of to every worker at the same time
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    with guarded(process):
        try:
            _watch(process, recipes, progress_of(log, start, total), title, console)
        except KeyboardInterrupt:
            with suppress(OSError):  # of a terminal that is no more
                console.print(f"{title}: interrupted; run the same command again to go on from here")
            return 130
    if process.returncode:
        console.print(f"[red]{title} failed[/red] (exit status {process.returncode}). The log: {log}")
        for line in causes(log, start):
            console.print(f"  {line}", markup=False, highlight=False)
    return process.returncode


def _interrupt_on(*signals: signal.Signals) -> None:
    """Treat these signals as Ctrl-C, except a SIGHUP that `nohup` makes us ignore."""
    # A shell's background jobs ignore Ctrl-C, and so would all that they start
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in signals:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))


def _writers(log: Path) -> str:
    """Who writes to the log, by the pid of its oldest process, which started the others."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and any(file.path == str(log.resolve()) for file in process.open_files()):
                found.append((process.create_time(), process.pid))
    return f"another run (pid {min(found)[1]})" if found else "another run"


@contextmanager
def guarded(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Within, whatever ends us ends the command."""
    guard = subprocess.Popen(
        ["sh", "-c", GUARD, "guard", str(process.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        if process.poll() is None:
            _stop(process)
        guard.kill()
        guard.communicate()


def _watch(
    process: subprocess.Popen[bytes], recipes: list[psutil.Process], bars: Bars, title: str, console: Console
) -> None:
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    told = began = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=None)
        while process.poll() is None:
            time.sleep(POLL_S)
            if not all(map(_lives, recipes)):  # a recipe was killed
                raise KeyboardInterrupt
            done, total = next(bars)
            progress.update(task, completed=done, total=total)
            if not console.is_terminal and time.monotonic() - told > LINE_EVERY_S:
                told = time.monotonic()
                console.print(f"{title}: {f'{done}/{total}' if total else 'starting'}, {told - began:.0f} s")
        if process.returncode == 0:
            progress.update(task, completed=1, total=1)
            console.print(f"{title}: done in {time.monotonic() - began:.0f} s")


def _recipes() -> list[psutil.Process]:
    """The scripts that we are a part of: the processes above us in our session; none under `nohup`.

    A shell with a terminal is none: closing it sends SIGHUP, and a job that was disowned there is meant to stay.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return []
    session = os.getsid(0)
    above = [process for process in psutil.Process().parents() if os.getsid(process.pid) == session]
    return [process for process in above if process.pid != session or process.terminal() is None]


def _lives(process: psutil.Process) -> bool:
    """Not a zombie either, which a parent has yet to notice."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def progress_of(log: Path, start: int, total: int | None = None) -> Bars:
    """The last bar in what the log has gained since offset `start`, read on at each `next`: (done, total or None).

    A bar of epochs begins anew with each; `total` is the number of steps of all.
    """
    last: tuple[int, int | None] = (0, None)
    with log.open("rb") as file:
        file.seek(start)
        while True:
            for match in _BAR.finditer(file.read()):
                epoch, done, size = int(match[1] or 1), int(match[2]), int(match[3])
                last = size * (epoch - 1) + done, total or size
            yield last


def causes(log: Path, start: int) -> list[str]:
    """Why the command failed: the line of the run's watch, else the last three lines that name an error, else any.

    Args:
        start: where in the log this start of the command begins.
    """
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    last_words = [match[1] for line in lines if (match := _LAST_WORDS.match(line))]
    named = list(dict.fromkeys(match[1].strip() for line in lines if (match := _CAUSE.match(line))))
    return last_words[-1:] or named[-3:] or lines[-5:]


def _stop(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
