"""The host's side of the sandboxes: one pre-imported parent per process, a bounded number of workers forked from it.

    Session -> SandboxPool.open() -> slot -> Zygote.spawn() -> Sandbox (one worker) -> request() / close()

Everything is lazy: the parent starts with the first call, a worker with its trajectory's first call. Too many at once
wait in a queue. A pool belongs to the event loop that first uses it.
"""

import asyncio
import contextlib
import itertools
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

from verl_axpo.errors import InfraFailure
from verl_axpo.tools.sandbox import layout
from verl_axpo.tools.sandbox.backends import Backend
from verl_axpo.tools.sandbox.inside import frames
from verl_axpo.tools.sandbox.limits import SandboxConfig
from verl_axpo.tools.sandbox.zygote import Zygote

logger = logging.getLogger(__name__)


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

    async def ended_by_itself(self, seconds: float) -> dict[str, Any] | None:
        """How it ended, once it has; None if it is still there after `seconds`."""
        ended = self.zygote.exits[self.number]
        try:
            return await asyncio.wait_for(asyncio.shield(ended), seconds)
        except asyncio.TimeoutError:
            return None

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

    async def discard(self, sandbox: Sandbox) -> None:
        """End a worker and free its slot."""
        try:
            await sandbox.close()
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
