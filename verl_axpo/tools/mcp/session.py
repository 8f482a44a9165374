"""A connection to an MCP server, and all connections of a process.

    trajectory -> McpServer.session() -> McpSession.call() -> the server's result
               -> McpServer.close()                           |_ InfraFailure: it died, hangs or cannot be reached
                                                              |_ CallError: it does not accept these arguments

The SDK's connection must be closed by the task that opened it, and the calls of a trajectory come from many tasks: so a
session is a task of its own, which opens, waits and closes.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Hashable, Mapping
from contextlib import asynccontextmanager
from typing import IO, Any

import httpx2
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import INVALID_PARAMS, CallToolResult, Tool

from verl_axpo.errors import CallError, InfraFailure
from verl_axpo.tools.mcp.config import McpConfig
from verl_axpo.tools.text import quoted

SAID_CHARS = 500  # of a server's stderr in a message: its last words
CLOSE_S = 10.0  # the SDK gives a server that does not end 2 s, then 2 s after SIGTERM
MOST_PAGES = 100  # of a list of tools: a server that never ends it must not hang a session


class McpSession:
    """One open connection. Its calls may run at the same time.

    Attributes:
        tools: of the server, by name.
        ended: it is closed, or the server is gone.
    """

    def __init__(self, config: McpConfig) -> None:
        self.config = config
        self.tools: dict[str, Tool] = {}
        self.ended = False
        self._closing = asyncio.Event()
        self._opened: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._life = asyncio.create_task(self._live())

    async def open(self) -> None:
        """Wait until calls can be made.

        Raises:
            InfraFailure: the server does not start, or does not answer within `start_timeout_s`.
        """
        done, _ = await asyncio.wait({self._opened}, timeout=self.config.start_timeout_s)
        if not done:
            await self.close()
            raise InfraFailure(f"mcp: {self.config.server} is not ready within {self.config.start_timeout_s:g} s")
        self._opened.result()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> CallToolResult:
        """Call a tool.

        Raises:
            CallError: the server does not accept the arguments.
            InfraFailure: it has no such tool, died, does not answer within `timeout_s`, or breaks the protocol.
        """
        if name not in self.tools:
            raise InfraFailure(f"mcp: {self.config.server} has no tool {name!r}; it has {sorted(self.tools)}")
        client = self._opened.result()
        try:
            return await asyncio.wait_for(client.call_tool(name, dict(arguments)), self.config.timeout_s)
        except asyncio.TimeoutError:
            failure = f"no answer within {self.config.timeout_s:g} s (timeout_s)"
        except MCPError as error:
            if error.code == INVALID_PARAMS:
                raise CallError(f"{quoted(error.message)}.") from error
            failure, self.ended = repr(error), True
        except Exception as error:  # whatever transport and protocol raise
            failure, self.ended = repr(error), True
        raise InfraFailure(f"mcp: {self.config.server}: {name}: {failure}")

    async def close(self) -> None:
        """End the connection and, if it is ours, the server's process."""
        self.ended = True
        self._closing.set()
        if not self._opened.done():
            self._life.cancel()  # it waits for a server that does not answer
        await asyncio.wait({self._life}, timeout=CLOSE_S)
        self._life.cancel()

    async def _live(self) -> None:
        with tempfile.TemporaryFile("w+", errors="replace") as stderr:
            try:
                async with _connection(self.config, stderr) as client:
                    self.tools = {tool.name: tool for tool in await _listed(client)}
                    self._opened.set_result(client)
                    await self._closing.wait()
            except (Exception, asyncio.CancelledError) as error:  # whatever transport and protocol raise
                if not self._opened.done():
                    told = f"mcp: {self.config.server} cannot be used: {_leaf(error)!r}{_last_words(stderr)}"
                    self._opened.set_exception(InfraFailure(told))
                    self._opened.exception()  # seen, even if nobody waits for it any more
            finally:
                self.ended = True


class McpServer:
    """The sessions of one process with one server, each under the trajectory that owns it."""

    _all: dict[tuple[str, int], "McpServer"] = {}  # noqa: RUF012  # of the process, by config and event loop

    def __init__(self, config: McpConfig) -> None:
        self.config = config
        self._sessions: dict[Hashable, asyncio.Task[McpSession]] = {}
        self._places = asyncio.Semaphore(config.max_sessions)

    @classmethod
    def of(cls, config: McpConfig) -> "McpServer":
        """The process's own for this config, in the running event loop."""
        key = (config.server_key, id(asyncio.get_running_loop()))
        if key not in cls._all:
            cls._all[key] = cls(config)
        return cls._all[key]

    async def session(self, owner: Hashable) -> McpSession:
        """The owner's open session; a new one if it has none, or the server of a shared one is gone.

        Raises:
            InfraFailure: see `McpSession.open`, or no place became free.
        """
        opening = self._sessions.get(owner)
        if opening is not None and opening.done() and (opening.exception() or opening.result().ended):
            await self.close(owner)
            opening = None
        if opening is None:
            opening = self._sessions[owner] = asyncio.create_task(self._open())
        return await asyncio.shield(opening)

    async def close(self, owner: Hashable) -> None:
        """Close the owner's session, if there is one."""
        opening = self._sessions.pop(owner, None)
        if opening is None:
            return
        opening.cancel()  # nothing, if it is open
        await asyncio.wait({opening})
        if not opening.cancelled() and opening.exception() is None:
            self._places.release()
            await opening.result().close()

    async def _open(self) -> McpSession:
        try:
            await asyncio.wait_for(self._places.acquire(), self.config.queue_timeout_s)
        except asyncio.TimeoutError:
            raise InfraFailure(
                f"mcp: {self.config.server}: none of {self.config.max_sessions} sessions became free within "
                f"{self.config.queue_timeout_s:g} s (max_sessions, queue_timeout_s)"
            ) from None
        session = McpSession(self.config)
        try:
            await session.open()
        except BaseException:
            self._places.release()
            await session.close()
            raise
        return session


@asynccontextmanager
async def _connection(config: McpConfig, stderr: IO[str]) -> AsyncIterator[Client]:
    if config.url is not None:
        timeout = httpx2.Timeout(config.timeout_s)
        async with (
            httpx2.AsyncClient(headers=config.headers, timeout=timeout) as http,
            Client(streamable_http_client(config.url, http_client=http)) as client,
        ):
            yield client
        return
    command = list(config.command or ())
    parameters = StdioServerParameters(command=command[0], args=command[1:], env=dict(config.env))
    async with Client(stdio_client(parameters, errlog=stderr)) as client:  # type: ignore[arg-type]  # any file
        yield client


async def _listed(client: Client) -> list[Tool]:
    """All pages of the server's tools."""
    page = await client.list_tools()
    tools = list(page.tools)
    for _ in range(MOST_PAGES):
        if not page.next_cursor:
            return tools
        page = await client.list_tools(cursor=page.next_cursor)
        tools += page.tools
    raise ValueError(f"its list of tools has no end within {MOST_PAGES} pages")


def _leaf(error: BaseException) -> BaseException:
    """What went wrong inside the task groups of the SDK."""
    while inner := getattr(error, "exceptions", None):
        error = inner[0]
    return error


def _last_words(stderr: IO[str]) -> str:
    stderr.seek(0)
    words = stderr.read().strip()[-SAID_CHARS:]
    return f"; it said: {words}" if words else ""
