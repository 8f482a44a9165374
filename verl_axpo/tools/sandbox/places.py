"""Places that all worker processes of a node share, so that a limit holds for the node and not for each process.

A place is an abstract Unix socket address: whoever has bound it holds the place, and the kernel frees it when the
holder closes it or dies. Nothing is left on a disk. The processes of one Ray on a node share their places; any other
process has its own.
"""

import asyncio
import errno
import os
import random
import socket
import time

from verl_axpo.errors import InfraFailure

POLL_S = 0.01  # between two looks of the process's first waiter
TRIED_AT_ONCE = 32  # places per look: a look takes less than 0.1 ms, whatever their number


class NodePlaces:
    """`count` places for holders of one kind.

    Args:
        kind: part of the places' names.
        count: places of the node; processes that give other numbers share the first of them.
        patience_s: seconds after which a waiter gives up.
        problem: what it then says.
    """

    def __init__(self, kind: str, count: int, *, patience_s: float, problem: str) -> None:
        node = os.environ.get("RAY_RAYLET_PID") or f"process-{os.getpid()}"  # Ray sets it in each of its workers
        self._prefix = f"\0verl-axpo-{kind}-{os.getuid()}-{node}-"
        self.count, self.patience_s, self.problem = count, patience_s, problem
        self._queue = asyncio.Lock()  # one waiter of the process looks, the others stand in line

    async def take(self) -> socket.socket:
        """A place, held until the socket is closed.

        Raises:
            InfraFailure: none became free in time.
        """
        deadline = time.monotonic() + self.patience_s
        async with self._queue:
            while (place := self._free_place()) is None:
                if time.monotonic() > deadline:
                    raise InfraFailure(f"python sandbox: {self.problem}, for {self.patience_s:g} s now")
                await asyncio.sleep(POLL_S)
        return place

    def _free_place(self) -> socket.socket | None:
        place = socket.socket(socket.AF_UNIX)
        for number in random.sample(range(self.count), min(self.count, TRIED_AT_ONCE)):
            try:
                place.bind(f"{self._prefix}{number}")
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    place.close()
                    raise
            else:
                return place
        place.close()
        return None
