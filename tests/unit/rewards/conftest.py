"""A judge's server in a process of its own, and what its replies look like."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("judge_server.py")
Step = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running `judge_server.py`."""

    port: int

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def requests(self) -> list[dict[str, Any]]:
        """What came so far, in order of arrival."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/requests") as reply:
            found: list[dict[str, Any]] = json.load(reply)
            return found


Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(*steps)` starts a server with this script; all of them end with the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*steps: Step) -> Server:
        process = subprocess.Popen([sys.executable, str(SCRIPT), json.dumps(steps)], stdout=subprocess.PIPE)
        processes.append(process)
        assert process.stdout is not None
        return Server(port=int(process.stdout.readline()))

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def verdict(correct: bool, reason: str = "same meaning", **step: Any) -> Step:
    """A step whose reply is a verdict as the judge asks for it."""
    return {"reply": json.dumps({"reason": reason, "correct": correct}), **step}
