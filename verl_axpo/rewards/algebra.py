"""Algebra that cannot hang: a few processes around math-verify, each replaced when it dies of its comparison.

    equal() -> a thread of the executor -> its process (algebra_process.py) -> True, False, or None: no verdict
                                                     |_ dies after `cpu_limit_s` of CPU time; the next one starts

CPU time, not wall-clock time, ends a comparison, so that a busy machine does not make right answers wrong. A process
that is silent for `WALL_LIMIT_S` is killed, and a process may be killed from outside: those are the machine's failures.
"""

import asyncio
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from typing import IO

from verl_axpo.errors import InfraFailure

PROCESSES = 2  # one hostile answer must not stop all; each holds 0.1 GiB, and verl runs 8 reward workers
CPU_LIMIT_S = 3.0  # per comparison; those that end in a verdict take 0.01 to 1.5 s
START_LIMIT_S = 300.0  # importing SymPy takes a second
WALL_LIMIT_S = 120.0  # 3 s of CPU time take longer only on a machine that hardly runs at all
FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)  # exit statuses; out of memory, or a machine that shuts down
MODULE = "verl_axpo.rewards.algebra_process"


class Algebra:
    """Compares expressions in `processes` processes, started when first needed."""

    def __init__(
        self, processes: int = PROCESSES, cpu_limit_s: float = CPU_LIMIT_S, wall_limit_s: float = WALL_LIMIT_S
    ) -> None:
        self.cpu_limit_s, self.wall_limit_s = cpu_limit_s, wall_limit_s
        # A thread for each process: who waits, waits in the executor's queue and blocks nobody's threads
        self._executor = ThreadPoolExecutor(processes, thread_name_prefix="algebra")
        self._own = threading.local()

    async def equal(self, answer: str, truth: str) -> bool | None:
        """Whether two LaTeX expressions are equal; None when the comparison used up its CPU time.

        Raises:
            InfraFailure: the process cannot start, was killed from outside, or the machine did not let it work.
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._equal, answer, truth)

    def close(self) -> None:
        """Let the threads end; their processes end when their input closes with them."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _equal(self, answer: str, truth: str) -> bool | None:
        process: AlgebraProcess | None = getattr(self._own, "process", None)
        if process is None or not process.is_alive():
            process = self._own.process = AlgebraProcess()
        try:
            verdict = process.ask(answer, truth, self.cpu_limit_s, self.wall_limit_s)
        except BaseException:
            self._replace(process)
            raise
        if verdict is None:
            self._replace(process)
        return verdict

    def _replace(self, process: "AlgebraProcess") -> None:
        process.kill()
        self._own.process = None


class AlgebraProcess:
    """One child process, used by one thread."""

    def __init__(self) -> None:
        # -m with our own search path: the child finds the package whichever way this process found it
        path = os.pathsep.join(entry for entry in sys.path if entry)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": path},
            )
        except OSError as error:
            raise InfraFailure(f"math-verify could not start: {error}") from error
        if self._read(START_LIMIT_S) is None:
            reason = _stream(self._process.stderr).read().decode(errors="replace").strip()
            self.kill()
            raise InfraFailure(f"math-verify could not start: {reason or 'no output'}; pip install math-verify")

    def is_alive(self) -> bool:
        """Whether it can be asked; one that was killed between two questions cannot."""
        return self._process.poll() is None

    def ask(self, answer: str, truth: str, cpu_limit_s: float, wall_limit_s: float) -> bool | None:
        """The verdict; None when the process died of the comparison."""
        request = json.dumps({"answer": answer, "truth": truth, "cpu_s": cpu_limit_s}) + "\n"
        stream = _stream(self._process.stdin)
        with suppress(BrokenPipeError):  # what it died of is looked at below
            stream.write(request.encode())
            stream.flush()
        reply = self._read(wall_limit_s)
        if reply is not None:
            return bool(reply["equal"])
        if self._process.wait() in FROM_OUTSIDE:
            raise InfraFailure("math-verify: its process was killed from outside; is the machine out of memory?")
        return None

    def kill(self) -> None:
        """End the process and close its pipes, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with suppress(BrokenPipeError):  # a question that it never read
                _stream(stream).close()

    def _read(self, limit_s: float) -> dict[str, bool] | None:
        output = _stream(self._process.stdout)
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            if not selector.select(limit_s):
                self.kill()
                raise InfraFailure(f"math-verify: no reply within {limit_s:g} s; the machine is overloaded")
        line = output.readline()
        return json.loads(line) if line else None


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None, "opened as a pipe"
    return stream


def algebra() -> Algebra:
    """This process's algebra; a fork gets its own, for pipes cannot be shared."""
    return _algebra_of(os.getpid())


@lru_cache(maxsize=1)
def _algebra_of(pid: int) -> Algebra:
    return Algebra()
