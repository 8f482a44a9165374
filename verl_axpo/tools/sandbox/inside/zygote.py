"""The pre-imported parent: imports once, then forks a worker per trajectory in milliseconds.

    host --(fd 0: one JSON message per packet, a socket with each spawn)--> Zygote --fork--> worker
    host <--(ready; exit of a worker, with its wait status)--------------- Zygote

It runs no model's code and reads nothing that a worker wrote. When the host closes the socket, everything ends.
"""

import contextlib
import gc
import importlib
import json
import mmap
import os
import resource
import selectors
import signal
import socket
import sys
import traceback
from typing import Any

from . import confine, frames, seccomp, worker


class Zygote:
    """Owns the workers. `settings` comes from the host: `backend`, `limits`, `scratch`, `readable`,
    `preload`, `warm_up`.
    """

    def __init__(self, control: socket.socket, settings: dict[str, Any]) -> None:
        self.control = control
        self.settings = settings
        self.namespaces = settings["backend"] == "bubblewrap"
        self.workers: dict[int, int] = {}  # process id -> the host's number for it

    def serve(self) -> None:
        """Until the host closes the control socket; then every worker dies."""
        for name in self.settings["preload"]:
            importlib.import_module(name)
        exec(self.settings["warm_up"], {})
        confine.become_subreaper()
        self.settings["limits"]["base_bytes"] = _mapped_bytes()
        gc.collect()
        gc.freeze()  # what is imported stays shared with the workers: their collector does not touch its pages
        self._send({"event": "ready"})
        with _child_signals() as deaths, selectors.DefaultSelector() as selector:
            selector.register(self.control, selectors.EVENT_READ)
            selector.register(deaths, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if deaths in ready:
                    deaths.recv(4096)
                    self._reap()
                if self.control in ready and not self._obey():
                    break
        for pid in self.workers:
            os.kill(pid, signal.SIGKILL)

    def _obey(self) -> bool:
        """Carry out one message; False once the host is gone."""
        text, descriptors, _, _ = socket.recv_fds(self.control, frames.MAX_CONTROL_BYTES, 1)
        if not text:
            return False
        message = json.loads(text)
        if message["op"] == "spawn" and descriptors:
            self._spawn(message, descriptors[0])
        elif message["op"] == "spawn":
            self._send({"event": "exit", "worker": message["worker"], "error": "too many open files in the parent"})
        elif message["op"] == "kill":
            for pid, number in list(self.workers.items()):
                if number == message["worker"]:
                    os.kill(pid, signal.SIGKILL)
        return True

    def _spawn(self, message: dict[str, Any], channel: int) -> None:
        try:
            pid = self._fork(message, channel)
        except OSError as error:
            self._send({"event": "exit", "worker": message["worker"], "error": str(error)})
            return
        finally:
            os.close(channel)
        self.workers[pid] = message["worker"]

    def _fork(self, message: dict[str, Any], channel: int) -> int:
        """Process id of the new worker; with namespaces it is the child of a child, which has entered them."""
        if not self.namespaces:
            while True:
                try:
                    return os.fork() or self._become_worker(message, channel)
                except InterruptedError:  # another worker ended: sandlock's supervisor hands the signal to the fork
                    continue
        reader, writer = os.pipe()
        helper = os.fork()
        if helper == 0:
            self._enter_and_fork(message, channel, writer)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            answer = pipe.read()
        os.waitpid(helper, 0)
        if not answer.isdigit():
            raise OSError(answer or "the process that should enter new namespaces died")
        return int(answer)

    def _enter_and_fork(self, message: dict[str, Any], channel: int, writer: int) -> None:
        answer = ""
        try:
            confine.new_namespaces()
            pid = os.fork()
            if pid == 0:
                os.close(writer)
                self._become_worker(message, channel)
            answer = str(pid)
        except OSError as error:
            answer = str(error)
        finally:
            os.write(writer, answer.encode())
            os._exit(0)

    def _become_worker(self, message: dict[str, Any], channel: int) -> int:
        """Confine this forked process and let it serve `channel`; never returns."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _keep_only(channel)
            scratch = message["scratch"] or self.settings["scratch"]
            worker.serve(channel, scratch, self.settings["limits"], lambda: self._confine(scratch))
            status = 0
        except Exception:
            traceback.print_exc()  # to the parent's log: this happens only before a model's code has run
        finally:
            os._exit(status)

    def _confine(self, scratch: str) -> None:
        limits = self.settings["limits"]
        if self.namespaces:
            confine.private_mounts(scratch, limits["scratch_mb"])
        elif self.settings["backend"] == "sandlock":
            confine.landlock(scratch, self.settings["readable"])
        os.chdir(scratch)
        confine.drop_capabilities()
        confine.set_limits(limits, threads_counted=self.namespaces)
        seccomp.install()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            number = self.workers.pop(pid, None)
            if number is not None:
                self._send({"event": "exit", "worker": number, "status": status})

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # the host is gone; `_obey` notices
            self.control.send(json.dumps(message).encode())


def _child_signals() -> socket.socket:
    """A socket that becomes readable whenever a child ends."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    return reader


def _keep_only(channel: int) -> None:
    """Close every descriptor but the three standard ones and `channel`; standard input is empty from here on."""
    os.closerange(3, channel)
    os.closerange(channel + 1, os.sysconf("SC_OPEN_MAX"))
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _mapped_bytes() -> int:
    """Address space of this process, to a megabyte: the smallest limit under which it can still map a page.

    /proc, which would tell, is closed to the sandlock backend.
    """
    before = resource.getrlimit(resource.RLIMIT_AS)
    low, high = 0, 2**47
    while high - low > 2**20:
        middle = (low + high) // 2
        resource.setrlimit(resource.RLIMIT_AS, (middle, before[1]))
        try:
            mmap.mmap(-1, mmap.PAGESIZE).close()
            high = middle
        except OSError:
            low = middle
    resource.setrlimit(resource.RLIMIT_AS, before)
    return high


def main() -> None:
    """Serve the socket on standard input with the settings of the first argument (JSON)."""
    settings = json.loads(sys.argv[1])
    Zygote(socket.socket(fileno=os.dup(0)), settings).serve()
