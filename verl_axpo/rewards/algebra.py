"""Algebra that cannot hang: a few processes around math-verify, each replaced when it dies of its comparison.

    equal() -> a thread of the executor -> its process (algebra_process.py) -> True, False, or None: no verdict
                                                     |_ ends itself after `CPU_LIMIT_S` of CPU time; the next one starts

CPU time, not wall-clock time, ends a comparison, so that a busy machine does not make right answers wrong. A process
that answers neither way for `WALL_LIMIT_S` is killed, and that is the machine's failure, not the policy's.
"""

import asyncio
import json
import os
import selectors
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import IO

from verl_axpo.errors import InfraFailure

PROCESSES = 2  # one hostile answer must not stop all; each holds 0.1 GiB, and verl runs 8 reward workers
WALL_LIMIT_S = 120.0  # 3 s of CPU time take longer only on a machine that hardly runs at all
MODULE = "verl_axpo.rewards.algebra_process"


class Algebra:
    """Compares expressions in `processes` processes, started when first needed."""

    def __init__(self, processes: int = PROCESSES, wall_limit_s: float = WALL_LIMIT_S) -> None:
        self.wall_limit_s = wall_limit_s
        # A thread for each process: who waits, waits in the executor's queue and blocks nobody's threads
        self._executor = ThreadPoolExecutor(processes, thread_name_prefix="algebra")
        self._own = threading.local()

    async def equal(self, answer: str, truth: str) -> bool | None:
        """Whether two LaTeX expressions are equal; None when the comparison used up its CPU time or its memory.

        Raises:
            InfraFailure: the process cannot start, or the machine did not let it work.
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._equal, answer, truth)

    def close(self) -> None:
        """Let the threads end; their processes end when their input closes with them."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _equal(self, answer: str, truth: str) -> bool | None:
        process: AlgebraProcess | None = getattr(self._own, "process", None)
        if process is None:
            process = self._own.process = AlgebraProcess(self.wall_limit_s)
        try:
            verdict = process.ask(answer, truth)
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

    def __init__(self, wall_limit_s: float) -> None:
        # -m with our own search path: the child finds the package whichever way this process found it
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        self._wall_limit_s = wall_limit_s
        if self._read() is None:
            reason = _stream(self._process.stderr).read().decode(errors="replace").strip()
            self.kill()
            raise InfraFailure(f"math-verify could not start: {reason or 'no output'}; pip install math-verify")

    def ask(self, answer: str, truth: str) -> bool | None:
        """The verdict; None when the process died of the comparison."""
        request = json.dumps({"answer": answer, "truth": truth}) + "\n"
        try:
            stream = _stream(self._process.stdin)
            stream.write(request.encode())
            stream.flush()
        except BrokenPipeError:
            return None
        reply = self._read()
        return None if reply is None else bool(reply["equal"])

    def kill(self) -> None:
        """End the process and close its pipes, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            _stream(stream).close()

    def _read(self) -> dict[str, bool] | None:
        output = _stream(self._process.stdout)
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            if not selector.select(self._wall_limit_s):
                self.kill()
                raise InfraFailure(
                    f"math-verify: no verdict within {self._wall_limit_s:g} s; the machine is overloaded"
                )
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
