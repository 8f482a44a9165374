"""An agent on a scripted server: pictures, tools and `ask`."""

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.unit.agent.scripted import MODEL, ZOOM_TOOLS, ScriptedServer, Scripts
from verl_axpo.agent.client import ChatClient
from verl_axpo.agent.loop import Agent
from verl_axpo.eval.types import AgentRun
from verl_axpo.tools.described import load_tools

Ask = Callable[..., AgentRun]
KEPT: dict[str, Image.Image] = {}


def keep(picture: Image.Image) -> str:
    KEPT[path := f"images/{len(KEPT)}.png"] = picture
    return path


def png(size: tuple[int, int] = (256, 256), colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def serve(tmp_path: Path) -> Any:
    """`serve(scripts)`: a server in its own process, stopped at the end of the test."""
    servers: list[ScriptedServer] = []

    def start(scripts: Scripts) -> ScriptedServer:
        servers.append(ScriptedServer(scripts, tmp_path / f"server{len(servers)}"))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


def ask(
    server: ScriptedServer, script: str, *, tools: Any = True, image: bytes = b"", retries: int = 0, **agent: Any
) -> AgentRun:
    """One trajectory of the question `script:NAME` about a red picture; its crops are in `KEPT`, by their paths."""

    async def run() -> AgentRun:
        chat = ChatClient(server.url, agent.pop("model", MODEL), retries=retries, timeout_s=agent.pop("timeout_s", 10))
        try:
            one = Agent(client=chat, keep=keep, tools=load_tools(ZOOM_TOOLS) if tools is True else tools or (), **agent)
            return await one.run(f"<image>script:{script}", [image or png()], lambda turn: 7 + turn)
        finally:
            await chat.close()

    return asyncio.run(run())
