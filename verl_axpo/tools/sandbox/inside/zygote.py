"""The pre-imported parent: imports once, then forks a worker per trajectory in milliseconds.

    host --(fd 0: one JSON message per packet, a socket with each spawn)--> Zygote --fork--> worker
    host <--(ready; exit of a worker, with its wait status)--------------- Zygote

It runs no model's code and reads nothing that a worker wrote. When the host closes the socket, everything ends.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import mmap
import os
import resource
import selectors
import shutil
import signal
import socket
import sys
import traceback
from typing import Any

from . import confine, frames, seccomp, worker

_HUGE_PAGE, _MADV_COLLAPSE = 2**21, 25  # bytes; linux/mman.h


class Zygote:
    """Owns the workers. `settings` comes from the host: `backend`, `limits`, `scratch`, `readable`,
    `preload`, `warm_up`.
    """

    def __init__(self, control: socket.socket, settings: dict[str, Any]) -> None:
        self.control = control
        self.settings = settings
        self.namespaces = confine.ProcessNamespaces() if settings["backend"] == "bubblewrap" else None
        self.landlock = confine.LandlockRules(settings["readable"]) if settings["backend"] == "sandlock" else None
        self.workers: dict[int, int] = {}  # the host's number -> process id
        self.selector = selectors.DefaultSelector()

    def serve(self) -> None:
        """Until the host closes the control socket; then every worker dies."""
        shutil.copymode = shutil.copystat = lambda *args, **kwargs: None  # refused; a copy of the content is a copy
        for name in self.settings["preload"]:
            importlib.import_module(name)
        exec(self.settings["warm_up"], {})
        self.kernel = worker.prepare(self.settings["limits"])
        self.filter = seccomp.Filter()
        self.settings["limits"]["base_bytes"] = _mapped_bytes()
        _make_cheap_to_fork()
        self._send({"event": "ready"})
        self.selector.register(self.control, selectors.EVENT_READ)
        host_is_there = True
        while host_is_there:
            for key, _ in self.selector.select():
                if key.fileobj is self.control:
                    host_is_there = self._obey()
                else:
                    self._reap(key.fd, key.data)
        for pid in self.workers.values():
            os.kill(pid, signal.SIGKILL)

    def _obey(self) -> bool:
        """Carry out one message; False once the host is gone."""
        text, descriptors, _, _ = socket.recv_fds(self.control, frames.MAX_CONTROL_BYTES, 1)
        if not text:
            return False
        message = json.loads(text)
        if message["op"] == "spawn":
            self._spawn(message, descriptors)
        elif message["op"] == "kill" and message["worker"] in self.workers:
            os.kill(self.workers[message["worker"]], signal.SIGKILL)
        return True

    def _spawn(self, message: dict[str, Any], channels: list[int]) -> None:
        number = message["worker"]
        try:
            if not channels:
                raise OSError("too many open files in the parent")
            self.workers[number] = pid = self._fork(message, channels[0])
            self.selector.register(os.pidfd_open(pid), selectors.EVENT_READ, number)
        except OSError as error:
            if number in self.workers:  # it runs, but its end could not be seen
                os.kill(self.workers[number], signal.SIGKILL)
                os.waitpid(self.workers.pop(number), 0)
            self._send({"event": "exit", "worker": number, "error": str(error)})
        finally:
            for channel in channels:
                os.close(channel)

    def _fork(self, message: dict[str, Any], channel: int) -> int:
        """Process id of the new worker."""
        while True:
            try:
                pid = self.namespaces.fork() if self.namespaces else os.fork()
            except InterruptedError:  # sandlock's supervisor hands signals to the fork
                continue
            return pid or self._become_worker(message, channel)

    def _become_worker(self, message: dict[str, Any], channel: int) -> int:
        """Confine this forked process and let it serve `channel`; never returns."""
        status = 1
        try:
            confine.own_session()
            scratch = message["scratch"] or self.settings["scratch"]
            worker.serve(channel, scratch, self.kernel, lambda: self._confine(scratch, channel))
            status = 0
        except Exception:
            traceback.print_exc()  # to the parent's log: this happens only before a model's code has run
        finally:
            os._exit(status)

    def _confine(self, scratch: str, channel: int) -> None:
        limits = self.settings["limits"]
        if self.namespaces:
            confine.new_namespaces()
            confine.private_mounts(scratch, limits["scratch_mb"])
        elif self.landlock:
            self.landlock.apply(scratch)
        _keep_only(channel)
        os.chdir(scratch)
        confine.drop_capabilities()
        confine.set_limits(limits, threads_counted=self.namespaces is not None)
        confine.die_with_parent()
        self.filter.install(os.getpid())

    def _reap(self, pidfd: int, number: int) -> None:
        self.selector.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(self.workers.pop(number), 0)
        self._send({"event": "exit", "worker": number, "status": status})

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # the host is gone; `_obey` notices
            self.control.send(json.dumps(message).encode())


def _keep_only(channel: int) -> None:
    """Close every descriptor but the three standard ones and `channel`; standard input is empty from here on."""
    os.closerange(3, channel)
    os.closerange(channel + 1, os.sysconf("SC_OPEN_MAX"))
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _make_cheap_to_fork() -> None:
    """Share what is imported with the workers, in few and large pieces.

    The kernel copies an entry for each page at a fork and takes it back when the worker ends: for 130 MB in small pages
    that was the larger part of a first call. Kernels before 6.1 do not know the request; nothing is lost there.
    """
    gc.collect()
    libc = ctypes.CDLL(None)
    for block in {id(tracked) // _HUGE_PAGE for tracked in gc.get_objects()}:
        libc.madvise(ctypes.c_void_p(block * _HUGE_PAGE), ctypes.c_size_t(_HUGE_PAGE), _MADV_COLLAPSE)
    gc.freeze()  # the workers' collectors leave these objects, and so their pages, alone


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
