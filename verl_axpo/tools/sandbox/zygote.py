"""The pre-imported parent of a process's sandboxes and its workers, as the host sees them; see `inside/zygote.py`.

    Zygote.start() -> ready, everything imported -> open() -> Sandbox: one worker -> request() ... close() -> stop()

Host and parent exchange JSON over a control socket; a worker's own channel is handed over as a file descriptor. The
parent's word is taken, for no model's code runs in it. Everything that comes from a worker is hostile.
"""

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from verl_axpo.errors import InfraFailure
from verl_axpo.tools.sandbox import layout
from verl_axpo.tools.sandbox.backends import SCRATCH_FOLDER, Backend
from verl_axpo.tools.sandbox.inside import frames
from verl_axpo.tools.sandbox.limits import SandboxConfig

END_TIMEOUT_S = 30.0  # for a killed process to be gone, on a machine that is busy with other things
LOG_BYTES = 2000  # of what a parent that failed wrote, shown in the error
BROKEN = (asyncio.IncompleteReadError, ConnectionError, frames.FrameError, asyncio.TimeoutError)  # the worker's doing


class Zygote:
    """A running parent. Make it with `start`."""

    def __init__(self, config: SandboxConfig, backend: Backend, preload: Sequence[str]) -> None:
        self.config = config
        self.backend = backend
        self.files = tempfile.TemporaryDirectory(prefix="verl-axpo-sandbox-", ignore_cleanup_errors=True)
        self.folder = Path(self.files.name)
        (self.folder / SCRATCH_FOLDER).mkdir()
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.setblocking(False)
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the parent)
        self.alive = True
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.exits: dict[int, asyncio.Future[dict[str, Any]]] = {}  # a worker's number -> how it ended
        self._numbers = itertools.count()
        settings = {
            "limits": config.of_a_worker(),
            "preload": list(preload),
            "warm_up": layout.WARM_UP if tuple(preload) == layout.PRELOAD else "",
        }
        command = backend.command(settings, self.folder)
        # Started by the thread of the event loop, which lives as long as the pool: bubblewrap dies with this thread.
        self.process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=self.log, stderr=self.log)
        theirs.close()
        if not backend.keeps_scratch:
            self.files.cleanup()
        asyncio.get_running_loop().add_reader(self.control, self._receive)

    @classmethod
    async def start(cls, config: SandboxConfig, backend: Backend, preload: Sequence[str]) -> "Zygote":
        """Start a parent and wait until it has imported everything.

        Raises:
            InfraFailure: it ended or took longer than `start_timeout_s`.
        """
        zygote = cls(config, backend, preload)
        try:
            await asyncio.wait_for(zygote.ready, config.start_timeout_s)
        except (InfraFailure, asyncio.TimeoutError) as error:
            reason = str(error) or f"not ready after {config.start_timeout_s:g} s"
            log = zygote.last_words()
            await zygote.stop(patience_s=0.0)
            raise InfraFailure(f"python sandbox ({backend.name}) did not start: {reason}. {log}".strip()) from None
        except BaseException:
            await zygote.stop()
            raise
        return zygote

    async def open(self) -> "Sandbox":
        """A fresh, confined worker.

        Raises:
            InfraFailure: the parent is gone, or the worker did not start.
        """
        number = next(self._numbers)
        self.exits[number] = asyncio.get_running_loop().create_future()
        scratch = self._scratch(number)
        if scratch is not None:
            scratch.mkdir(mode=0o700)
        ours, theirs = socket.socketpair()
        with theirs:
            sandbox = Sandbox(self, number, *await asyncio.open_unix_connection(sock=ours))
            try:
                message = {"op": "spawn", "worker": number, "scratch": None if scratch is None else str(scratch)}
                await self._send(message, theirs.fileno())
                theirs.close()
                problem = await sandbox.starts()
            except BaseException:
                await sandbox.close()
                raise
        if problem is not None:
            ended = await sandbox.close()
            reason = f"{ended.get('error') or problem}. {self.last_words()}".strip()
            raise InfraFailure(f"a python sandbox ({self.backend.name}) did not start: {reason}")
        return sandbox

    async def end(self, number: int) -> dict[str, Any]:
        """Kill a worker, wait until it is gone, remove its files; returns how it ended.

        Raises:
            InfraFailure: the parent is dead, or does not confirm; the pool then replaces it.
        """
        ended = self.exits[number]
        try:
            if not ended.done():
                await self._send({"op": "kill", "worker": number})
            return await asyncio.wait_for(asyncio.shield(ended), END_TIMEOUT_S)
        except asyncio.TimeoutError:
            self._lost("the parent process does not answer")
            await self.stop(patience_s=0.0)
            raise InfraFailure(f"a python sandbox is still there {END_TIMEOUT_S:g} s after it was killed") from None
        finally:
            self.exits.pop(number, None)
            scratch = self._scratch(number)
            if scratch is not None:
                await asyncio.to_thread(_remove, scratch)

    async def stop(self, patience_s: float = END_TIMEOUT_S) -> None:
        """End the parent with all its workers and remove their files; one that does not end by itself is killed."""
        self._lost("stopped")
        try:
            await asyncio.to_thread(self.process.wait, patience_s)
        except subprocess.TimeoutExpired:
            _kill_tree(self.process.pid)
            await asyncio.to_thread(self.process.wait)
        self.log.close()
        await asyncio.to_thread(_remove, self.folder)
        self.files.cleanup()

    def last_words(self) -> str:
        """The end of what the parent and its confinement wrote."""
        size = self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, size - LOG_BYTES))
        return self.log.read().decode(errors="replace").strip()

    def _scratch(self, number: int) -> Path | None:
        """A worker's files on the host; None where the backend keeps them inside."""
        return self.folder / SCRATCH_FOLDER / str(number) if self.backend.keeps_scratch else None

    async def _send(self, message: dict[str, Any], *descriptors: int) -> None:
        while self.alive:
            try:
                socket.send_fds(self.control, [json.dumps(message).encode()], descriptors)
                return
            except BlockingIOError:  # the parent is busy forking
                await asyncio.sleep(0.01)
            except OSError:
                self._lost("the parent process ended")
        raise InfraFailure("python sandbox: the parent process ended")

    def _receive(self) -> None:
        try:
            text = self.control.recv(frames.MAX_CONTROL_BYTES)
        except BlockingIOError:
            return
        except OSError:
            text = b""
        if not text:
            self._lost("the parent process ended")
            return
        message = json.loads(text)
        if message["event"] == "ready":
            self.ready.set_result(None)
            return
        ended = self.exits.get(message["worker"])
        if ended is not None and not ended.done():
            ended.set_result(message)

    def _lost(self, reason: str) -> None:
        if not self.alive:
            return
        self.alive = False
        asyncio.get_running_loop().remove_reader(self.control)
        self.control.close()
        waiting: list[asyncio.Future[Any]] = [self.ready, *self.exits.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(InfraFailure(f"python sandbox: {reason}"))
                future.exception()  # whoever waits gets it; without a waiter asyncio need not complain


class Sandbox:
    """One worker."""

    def __init__(self, zygote: Zygote, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.zygote = zygote
        self.number = number
        self.reader = reader
        self.writer = writer
        self.used = False  # whether a model's code has run in it

    async def starts(self) -> str | None:
        """Wait until it is confined; returns what went wrong."""
        try:
            answer, _ = await asyncio.wait_for(self._read(), self.zygote.config.start_timeout_s)
        except BROKEN as error:
            return repr(error)
        return None if answer.get("ready") is True else str(answer.get("error"))

    async def request(self, header: dict[str, Any], blob: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """Ask, and read the one reply that belongs to it. The caller limits the time.

        Raises:
            FrameError: the reply is none, too large, or not to this request.
            IncompleteReadError, ConnectionError: the worker is gone.
        """
        token = secrets.token_hex(8)
        self.writer.write(frames.pack({"id": token, **header}, blob))
        await self.writer.drain()
        reply, data = await self._read()
        if reply.get("id") != token:
            raise frames.FrameError("a reply to no request")
        return reply, data

    async def _read(self) -> tuple[dict[str, Any], bytes]:
        """One frame, within the sizes that a reply can have."""
        config = self.zygote.config
        prefix = await self.reader.readexactly(frames.PREFIX_BYTES)
        header, blob = frames.sizes(
            prefix,
            max_header=frames.max_reply_header(config.output_bytes),
            max_blob=config.images * config.image_pixels * frames.CHANNELS,
        )
        text = await self.reader.readexactly(header)
        return frames.unpack(text), await self.reader.readexactly(blob)

    async def ended_by_itself(self, seconds: float) -> dict[str, Any] | None:
        """How it ended, once it has; None if it is still there after `seconds`."""
        try:
            return await asyncio.wait_for(asyncio.shield(self.zygote.exits[self.number]), seconds)
        except asyncio.TimeoutError:
            return None

    async def close(self) -> dict[str, Any]:
        """Kill it; returns how it ended (`status` of wait, or `error`).

        Raises:
            InfraFailure: see `Zygote.end`.
        """
        self.writer.close()
        return await self.zygote.end(self.number)


def _kill_tree(pid: int) -> None:
    """Kill a process and all below it, stopped ones too: what confines a parent need not die with what it confines."""
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        for process in (top, *top.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def _remove(folder: Path) -> None:
    """Delete what a model's code may have filled: `rm` does not recurse, so that no depth of folders breaks it."""
    try:
        folder.rmdir()  # mostly there is nothing in it, and a program costs as much as a fork
    except OSError:
        subprocess.run(["rm", "-rf", str(folder)], check=False, stderr=subprocess.DEVNULL)
    if folder.exists():  # a folder that even its owner may not open
        subprocess.run(["chmod", "-R", "u+rwx", str(folder)], check=False)
        subprocess.run(["rm", "-rf", str(folder)], check=False)
