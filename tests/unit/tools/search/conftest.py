"""A server that answers as Tavily's API does, or fails as told, and the tool's config that points to it."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

RESULTS = [
    {"title": "Oslo", "url": "https://example.org/oslo", "content": "Oslo is the capital of Norway.", "score": 0.9},
    {"title": "Norway", "url": "https://example.org/norway", "content": "A country in the north.", "score": 0.4},
]
Handler = BaseHTTPRequestHandler
Behaviour = Callable[[Handler], None]


def answer(status: int, body: bytes, **headers: str) -> Behaviour:
    """Send one whole response; `Retry_After="1"` becomes the header Retry-After."""

    def send(handler: Handler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return send


def found(results: Any = RESULTS) -> Behaviour:
    return answer(200, json.dumps({"query": "?", "results": results, "response_time": 0.1}).encode())


def failed(status: int, **headers: str) -> Behaviour:
    """An error as Tavily words it."""
    return answer(status, json.dumps({"detail": {"error": f"told to answer {status}"}}).encode(), **headers)


def after(seconds: float, behaviour: Behaviour) -> Behaviour:
    def wait(handler: Handler) -> None:
        time.sleep(seconds)
        behaviour(handler)

    return wait


def drip(handler: Handler) -> None:
    """Begin an answer and send a byte of it every 50 ms for a minute, which no time-out between bytes notices."""
    handler.send_response(200)
    handler.send_header("Content-Length", "10000")
    handler.end_headers()
    for _ in range(1200):
        handler.wfile.write(b" ")
        time.sleep(0.05)


def drop(handler: Handler) -> None:
    """Close the connection in the middle of an answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"results": [')


class FaultServer(ThreadingHTTPServer):
    """Carries out `plan`, one behaviour per request, then answers `found()`; keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.plan: list[Behaviour] = []
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is part of the tests; its traceback says nothing."""


class _Handler(BaseHTTPRequestHandler):
    server: FaultServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append({"path": self.path, **body})
            self.server.headers.append(dict(self.headers))
            self.server.times.append(time.monotonic())
            behaviour = self.server.plan.pop(0) if self.server.plan else found()
        behaviour(self)

    def log_message(self, format: str, *args: Any) -> None:
        """No log lines."""


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def tavily(server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A config for `server`, with 20 ms between attempts."""
    from verl_axpo.tools.search import tavily as module

    monkeypatch.setattr(module, "BACKOFF_S", lambda state: 0.02)
    monkeypatch.setenv("TAVILY_API_KEY", "tvly-test")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return {
        "base_url": server.url,
        "cache_dir": str(tmp_path / "cache"),
        "requests_per_minute": 60_000.0,  # 1 ms
        "attempt_timeout_s": 30.0,
        "timeout_s": 60.0,
    }
