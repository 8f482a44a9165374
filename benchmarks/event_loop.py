"""Loaded into a training (`VERL_USE_EXTERNAL_MODULES`): how long the event loop of a rollout worker is held up at once.

    worker's loop: a beat every 5 ms          -> the time between two beats is a block
    a thread:      the loop's stack meanwhile -> what the loop was at
    -> a line in `AXPO_BENCHMARK_BLOCKS` for each block of 20 ms and more

While the loop is held up, none of the worker's rollouts goes on. Where other processes want the same cores, a block has
waits of the system, too: `cpu` is the loop's own share of it.
"""

import asyncio
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from wrapt import register_post_import_hook

BLOCKS = "AXPO_BENCHMARK_BLOCKS"  # the variable that has the file's path
BEAT_S, LEAST_S = 0.005, 0.02
OURS = ("verl_axpo", "verl/", "transfer_queue", "transformers", "ray/")  # of a stack: the innermost of these are told


class Beats:
    """Of one event loop."""

    def __init__(self, path: Path) -> None:
        self.path, self.loop_thread = path, threading.get_ident()
        self.last, self.stack = time.monotonic(), ""
        threading.Thread(target=self._watch, daemon=True).start()

    async def beat(self) -> None:
        """As long as the worker lives."""
        cpu = time.thread_time()
        while True:
            await asyncio.sleep(BEAT_S)
            now, used = time.monotonic(), time.thread_time()
            if (seconds := now - self.last - BEAT_S) >= LEAST_S:
                block = {"at": time.time(), "seconds": seconds, "cpu": used - cpu, "stack": self.stack}
                with self.path.open("a") as file:
                    file.write(json.dumps(block) + "\n")
            self.last, self.stack, cpu = time.monotonic(), "", time.thread_time()

    def _watch(self) -> None:
        while True:
            time.sleep(BEAT_S)
            if time.monotonic() - self.last > LEAST_S and not self.stack:
                self.stack = told(sys._current_frames().get(self.loop_thread))


def told(frame: Any) -> str:
    """The innermost functions of a stack that have a name for us."""
    names: list[str] = []
    while frame is not None and len(names) < 4:
        if any(part in frame.f_code.co_filename for part in OURS):
            names.append(frame.f_code.co_qualname if hasattr(frame.f_code, "co_qualname") else frame.f_code.co_name)
        frame = frame.f_back
    return " < ".join(names)


def told_of(path: Path, started: float) -> list[str]:
    """The longest block after `started` (seconds since the epoch), and that with the most work of the loop's own."""
    blocks = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    blocks = [block for block in blocks if block["at"] >= started]
    if not blocks:
        return [f"the workers' event loops were never held up for {1000 * LEAST_S:.0f} ms"]
    return [
        f"{name} of a rollout worker's event loop ({len(blocks)} in all): {block['seconds']:.3f} s, of which "
        f"{block['cpu']:.3f} s are its own work, in {block['stack']}"
        for name, measure in (("longest block", "seconds"), ("block with most work", "cpu"))
        for block in [max(blocks, key=lambda block: float(block[measure]))]
    ]


def watch_worker(features: Any) -> None:
    """The beats begin with a worker's first prompt. In the base class, for the reason that `alternating.py` has."""
    worker = features.FeaturesWorker

    async def run_prompt(self: Any, *args: Any, **kwargs: Any) -> None:
        if not hasattr(self, "beats"):
            self.beats = asyncio.ensure_future(Beats(Path(os.environ[BLOCKS])).beat())
        await super(worker, self)._run_prompt(*args, **kwargs)

    worker._run_prompt = run_prompt


register_post_import_hook(watch_worker, "verl_axpo.integration.features")
