"""A scripted server and evaluations against it."""

import asyncio
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.unit.agent.scripted import MODEL, ZOOM_TOOLS, ScriptedServer
from tests.unit.eval import colours
from verl_axpo.eval import evaluate as module
from verl_axpo.eval.sampling import Limits
from verl_axpo.eval.settings import Settings
from verl_axpo.eval.types import Question

Evaluate = Callable[..., bool]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., ScriptedServer]]:
    """`serve(**scripts)`: the colours' scripts, some of them replaced, on a server of its own process."""
    servers: list[ScriptedServer] = []

    def start(port: int = 0, **scripts: Any) -> ScriptedServer:
        servers.append(ScriptedServer(colours.SCRIPTS | scripts, tmp_path / f"server{len(servers)}", port))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


def settings(**changes: Any) -> Settings:
    values: dict[str, Any] = {"model": MODEL, "rollouts": 2, "limits": Limits(response_tokens=1000)}
    return Settings(**values | changes)


def evaluate(
    url: str,
    out: Path,
    *,
    source: int = 1,
    benchmarks: tuple[str, ...] = ("warm", "cold"),
    questions: dict[str, list[Question]] | None = None,
    judge: Any = None,
    judge_name: str | None = None,
    registry: Any = colours,
    tools: str = ZOOM_TOOLS,
    concurrency: int = 4,
    console: Console | None = None,
    **changes: Any,
) -> bool:
    """One run of `verl-axpo eval run`, in this process; whether everything is done."""
    questions = questions or {name: colours.load(name, source) for name in benchmarks}
    return (
        asyncio.run(
            module.evaluate(
                settings(judge=judge_name, **changes),
                questions,
                registry=registry,
                out=out,
                base_url=url,
                api_key="none",
                tools=tools,
                judge=judge,
                concurrency=concurrency,
                retries=0,
                console=console or Console(file=io.StringIO()),
            )
        ).share
        == 0
    )
