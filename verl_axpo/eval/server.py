"""vLLM's OpenAI-compatible server for as long as an evaluation samples: Serve -> process -> URL -> stopped.

with serving(Serve(model=..., gpus=8), log) as base_url: ...
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from verl_axpo.errors import InfraFailure
from verl_axpo.progress import guarded

# Pictures in the longest prompt of an evaluation: 8 of a question (Math-VR), and 4 from python, the most that a call
# returns, in each of 4 turns (the fifth carries out no call; one call a turn: --parallel-calls).
IMAGES = 8 + 4 * 4
# Evaluation samples up to 32,768 tokens after the prompt, of which an image of HR-Bench-8K takes 16,384.
WINDOW_TOKENS = 65_536
START_S = 1800.0  # 66 GB of weights from a network disk take a while
STOP_S = 60.0
POLL_S = 1.0
LOG_LINES = 20  # of the server's log, in the message of a server that did not start
# For a tiny model without an accelerator; the reasons are those of integration/config/tiny_rl.yaml
ON_CPU = (
    *("--dtype", "float32", "--enforce-eager", "--skip-mm-profiling", "--kv-cache-memory-bytes", "1073741824"),
    *("--max-num-seqs", "128", "--max-num-batched-tokens", "8192", "--no-enable-chunked-prefill", "--block-size", "16"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """What is served, and on what.

    Attributes:
        model: hub id or folder; also its name on the server.
        gpus: all GPUs that the replicas take together; 0: the CPU build, without an accelerator.
        tensor_parallel: GPUs of one replica.
        window: tokens of a prompt and its response.

    Raises:
        ValueError: a replica takes more GPUs than there are.
    """

    model: str
    gpus: int
    tensor_parallel: int = 1
    window: int = WINDOW_TOKENS

    def __post_init__(self) -> None:
        if self.gpus and self.gpus % self.tensor_parallel:
            raise ValueError(
                f"serve: {self.gpus} GPUs do not divide into replicas of {self.tensor_parallel}; change --gpus or --tp"
            )

    def command(self, port: int) -> list[str]:
        """vLLM's server: an engine per replica and, on GPUs, an API process per engine, for each turn of a rollout
        sends its pictures again and a single process would decode all of them.

        The CPU build starts by the module: `vllm serve` asks for the package `vllm`, which has another name there.
        """
        replicas = str(max(1, self.gpus // self.tensor_parallel))
        program = ["vllm.entrypoints.openai.api_server", "--model", self.model, *ON_CPU]
        if self.gpus:
            program = ["vllm.entrypoints.cli.main", "serve", self.model, "--api-server-count", replicas]
        return [
            *(sys.executable, "-m", *program),
            *("--tensor-parallel-size", str(self.tensor_parallel), "--data-parallel-size", replicas),
            *("--host", "127.0.0.1", "--port", str(port), "--max-model-len", str(self.window)),
            *("--limit-mm-per-prompt", f'{{"image": {IMAGES}, "video": 0}}', "--enable-prefix-caching"),
            # No sampling setting of the checkpoint's own without the caller's knowledge
            *("--generation-config", "vllm"),
        ]


@contextmanager
def serving(serve: Serve, log: Path) -> Iterator[str]:
    """Start the server, wait until it answers, yield its URL up to /v1, stop it.

    Raises:
        InfraFailure: it ended before it answered, or does not answer within START_S; the end of its log is told.
    """
    port = _free_port()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        # Its own process group: Ctrl-C reaches the evaluation, which then stops the server
        process = subprocess.Popen(
            serve.command(port),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "VLLM_NO_USAGE_STATS": "1"},
        )
    with guarded(process):  # a kill of ours must not leave it on the GPUs
        try:
            _wait(process, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            _stop(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not _answers(url):
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            what = "ended before it answered" if ended else f"does not answer after {START_S:.0f} s"
            end = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
            raise InfraFailure(f"vLLM {what}; the end of {log}:\n{end}")
        time.sleep(POLL_S)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the server alone, so that it ends its engines; SIGKILL to all of them if it does not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
