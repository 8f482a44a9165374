"""The watch in a vLLM server's process: Ray sees the server, but not the engine processes that work for it.

AsyncLLM.errored -> which child died, with its exit code -> the driver's watch
"""

import functools
import logging
import multiprocessing
import threading
import time
from types import ModuleType
from typing import Any

from verl_axpo.integration.watch import exit_words, report

logger = logging.getLogger(__name__)

POLL_S = 1.0


def watch_engines(module: ModuleType) -> None:
    """Watch the engine of every server from its start on.

    Patch, verl 0.9 (`vllm_async_server`): a dead engine fails the rollouts one by one, and a weight update waits for it
    for ever. tests/contract/test_engine_watch.py tells when it can go.
    """
    original = module.vLLMHttpServer.run_server

    @functools.wraps(original)
    async def run_server(self: Any, *args: Any, **kwargs: Any) -> None:
        await original(self, *args, **kwargs)
        watch = functools.partial(_watch, self.engine, self.replica_rank, multiprocessing.active_children())
        threading.Thread(target=watch, daemon=True, name="axpo-engine-watch").start()

    module.vLLMHttpServer.run_server = run_server


def _watch(engine: Any, replica: int, children: list[multiprocessing.process.BaseProcess]) -> None:
    while not engine.errored:
        time.sleep(POLL_S)
    report(death_of(replica, children))


def death_of(replica: int, children: list[multiprocessing.process.BaseProcess]) -> str:
    """Words for the end of a replica's engine."""
    dead = [child for child in children if child.exitcode is not None]
    which = ", ".join(f"{child.name} (pid {child.pid}) {exit_words(child.exitcode)}" for child in dead)
    return f"vLLM's engine of replica {replica} died: {which or 'an error of its own, which is in the log'}"
