"""The sandboxes of this process: one pre-imported parent, and workers forked from it within the limits of the node.

    Session -> SandboxPool.open() -> a place of the node -> Zygote.open() -> Sandbox -> discard()
            -> turn(): one of the node's places for calls that run

Everything is lazy: the parent starts with the first call, a worker with its trajectory's first call. Too many at once
wait in a queue. A pool belongs to the event loop that first uses it.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Sequence

from verl_axpo.errors import InfraFailure
from verl_axpo.tools.sandbox import layout
from verl_axpo.tools.sandbox.backends import Backend
from verl_axpo.tools.sandbox.limits import SandboxConfig
from verl_axpo.tools.sandbox.places import NodePlaces
from verl_axpo.tools.sandbox.zygote import Sandbox, Zygote

logger = logging.getLogger(__name__)


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
        patience_s = config.queue_timeout_s
        self._places = NodePlaces(
            "sandbox", config.max_sandboxes, patience_s=patience_s, problem="every sandbox is in use"
        )
        self._turns = NodePlaces("call", config.running, patience_s=patience_s, problem="too many calls run at once")
        self._held: dict[Sandbox, socket.socket] = {}

    async def open(self) -> Sandbox:
        """A fresh, confined worker.

        Raises:
            InfraFailure: none became free in time, or it could not be started.
        """
        place = await self._places.take()
        try:
            sandbox = await (await self._running_zygote()).open()
        except OSError as error:  # no descriptors or memory left in this process
            place.close()
            raise InfraFailure(f"python sandbox: {error}") from error
        except BaseException:
            place.close()
            raise
        self._held[sandbox] = place
        return sandbox

    async def discard(self, sandbox: Sandbox) -> None:
        """End a worker and free its place."""
        try:
            await sandbox.close()
        finally:
            self._held.pop(sandbox).close()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Holds one of the places for calls that run at the same time.

        Raises:
            InfraFailure: none became free in time.
        """
        with await self._turns.take():
            yield

    async def close(self) -> None:
        """End everything."""
        async with self._starting:
            zygote, self._zygote = self._zygote, None
        if zygote is not None:
            await zygote.stop()
        for place in self._held.values():  # of sessions that nobody closed
            place.close()

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
