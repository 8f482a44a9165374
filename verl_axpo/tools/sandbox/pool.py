"""The host's side of the sandboxes: one pre-imported parent per process, a bounded number of workers forked from it.

    Session -> SandboxPool.open() -> slot -> Zygote.spawn() -> Sandbox (one worker) -> request() / close()

Everything is lazy: the parent starts with the first call, a worker with its trajectory's first call. Too many at once
wait in a queue. A pool belongs to the event loop that first uses it.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import os
import secrets
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from verl_axpo.errors import InfraFailure
from verl_axpo.tools.sandbox import layout
from verl_axpo.tools.sandbox.backends import SCRATCH_FOLDER, Backend
from verl_axpo.tools.sandbox.inside import frames
from verl_axpo.tools.sandbox.limits import SandboxConfig

logger = logging.getLogger(__name__)

END_TIMEOUT_S = 30.0  # for a killed process to be gone, on a machine that is busy with other things
LOG_BYTES = 2000  # of what a parent that failed wrote, shown in the error


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
        self.exits: dict[int, asyncio.Future[dict[str, Any]]] = {}
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
            await zygote.stop()
            raise InfraFailure(f"python sandbox ({backend.name}) did not start: {reason}. {log}".strip()) from None
        except BaseException:
            await zygote.stop()
            raise
        return zygote

    async def spawn(self, number: int, channel: socket.socket) -> None:
        """Ask for a worker that serves `channel`; `exits[number]` tells how it ended.

        Raises:
            InfraFailure: the parent is gone.
        """
        self.exits[number] = asyncio.get_running_loop().create_future()
        await self._send({"op": "spawn", "worker": number, "scratch": self._scratch(number)}, channel.fileno())

    async def end(self, number: int) -> dict[str, Any]:
        """Kill a worker, wait until it is gone, remove its files; returns how it ended.

        Raises:
            InfraFailure: it cannot be killed, or the parent is dead.
        """
        ended = self.exits[number]
        try:
            if not ended.done():
                await self._send({"op": "kill", "worker": number})
            return await asyncio.wait_for(asyncio.shield(ended), END_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise InfraFailure(f"a python sandbox is still there {END_TIMEOUT_S:g} s after it was killed") from None
        finally:
            self.exits.pop(number, None)
            scratch = self._scratch(number, create=False)
            if scratch is not None:
                await asyncio.to_thread(_remove, scratch)

    async def stop(self) -> None:
        """End the parent with all its workers and remove their files."""
        self._lost("stopped")
        try:
            await asyncio.to_thread(self.process.wait, END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)
        self.log.close()
        await asyncio.to_thread(_remove, str(self.folder))
        self.files.cleanup()

    def last_words(self) -> str:
        """The end of what the parent and its confinement wrote."""
        size = self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, size - LOG_BYTES))
        return self.log.read().decode(errors="replace").strip()

    def _scratch(self, number: int, *, create: bool = True) -> str | None:
        if not self.backend.keeps_scratch:
            return None
        folder = self.folder / SCRATCH_FOLDER / str(number)
        if create:
            folder.mkdir(mode=0o700)
        return str(folder)

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
                future.exception()  # whoever waits gets it; nobody waiting is no accident


def _remove(folder: str) -> None:
    """Delete what a model's code may have filled: `rm` does not recurse, so that no depth of folders breaks it."""
    subprocess.run(["rm", "-rf", folder], check=False)


class Sandbox:
    """One worker, as the host sees it. Everything that comes from it is hostile."""

    def __init__(self, zygote: Zygote, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.zygote = zygote
        self.number = number
        self.reader = reader
        self.writer = writer
        self.used = False  # whether a model's code has run in it

    async def request(self, header: dict[str, Any], blob: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """Ask, and read the one reply that belongs to it. The caller limits the time.

        Raises:
            FrameError: the reply is none, too large, or not to this request.
            IncompleteReadError, ConnectionError: the worker is gone.
        """
        token = secrets.token_hex(8)
        self.writer.write(frames.pack({"id": token, **header}, blob))
        await self.writer.drain()
        reply, data = await self.read()
        if reply.get("id") != token:
            raise frames.FrameError("a reply to no request")
        return reply, data

    async def read(self) -> tuple[dict[str, Any], bytes]:
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

    async def close(self) -> dict[str, Any]:
        """Kill it; returns how it ended (`status` of wait, or `error`).

        Raises:
            InfraFailure: see `Zygote.end`.
        """
        self.writer.close()
        return await self.zygote.end(self.number)


class SandboxPool:
    """Sandboxes for the trajectories of this process.

    Args:
        config: limits and sizes.
        backend: how workers are confined; see `probe.choose`.
        preload: what the parent imports for them.
    """

    def __init__(self, config: SandboxConfig, backend: Backend, preload: Sequence[str] = layout.PRELOAD) -> None:
        self.config = config
        self.backend = backend
        self.preload = preload
        self._loop: asyncio.AbstractEventLoop | None = None
        self._zygote: Zygote | None = None
        self._starting = asyncio.Lock()
        self._slots = asyncio.Semaphore(config.max_sandboxes)
        self._running = asyncio.Semaphore(config.running)
        self._numbers = itertools.count()

    async def open(self) -> Sandbox:
        """A fresh, confined worker.

        Raises:
            InfraFailure: none became free in time, or it could not be started.
        """
        await self._acquire(self._slots, "every sandbox is in use")
        try:
            return await self._open()
        except BaseException:
            self._slots.release()
            raise

    async def discard(self, sandbox: Sandbox) -> dict[str, Any]:
        """End a worker and free its slot; returns how it ended."""
        try:
            return await sandbox.close()
        finally:
            self._slots.release()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Holds one of the places for calls that run at the same time.

        Raises:
            InfraFailure: none became free in time.
        """
        await self._acquire(self._running, "too many calls run at once")
        try:
            yield
        finally:
            self._running.release()

    async def close(self) -> None:
        """End everything."""
        async with self._starting:
            zygote, self._zygote = self._zygote, None
        if zygote is not None:
            await zygote.stop()

    async def _open(self) -> Sandbox:
        zygote = await self._running_zygote()
        ours, theirs = socket.socketpair()
        try:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        sandbox = Sandbox(zygote, next(self._numbers), reader, writer)
        try:
            with theirs:
                await zygote.spawn(sandbox.number, theirs)
            answer, _ = await asyncio.wait_for(sandbox.read(), self.config.start_timeout_s)
            problem = None if answer.get("ready") is True else answer.get("error")
        except (asyncio.IncompleteReadError, ConnectionError, frames.FrameError, asyncio.TimeoutError) as error:
            problem = repr(error)
        except BaseException:
            await sandbox.close()
            raise
        if problem is not None:
            ended = await sandbox.close()
            reason = f"{ended.get('error') or problem}. {zygote.last_words()}".strip()
            raise InfraFailure(f"a python sandbox ({self.backend.name}) did not start: {reason}")
        return sandbox

    async def _running_zygote(self) -> Zygote:
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise RuntimeError("a SandboxPool was used from a second event loop; make one pool per loop")
        self._loop = loop
        async with self._starting:
            if self._zygote is not None and not self._zygote.alive:
                logger.warning("python sandbox: the parent process ended; starting another")
                await self._zygote.stop()
                self._zygote = None
            if self._zygote is None:
                await asyncio.to_thread(layout.keep_bytecode, self.preload)
                self._zygote = await Zygote.start(self.config, self.backend, self.preload)
            return self._zygote

    async def _acquire(self, places: asyncio.Semaphore, problem: str) -> None:
        try:
            await asyncio.wait_for(places.acquire(), self.config.queue_timeout_s)
        except asyncio.TimeoutError:
            raise InfraFailure(f"python sandbox: {problem}, for {self.config.queue_timeout_s:g} s now") from None
