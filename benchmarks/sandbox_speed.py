"""The python tool's sandbox against the clock, and against a Jupyter kernel with the same imports.

    one pool -> warm calls, fresh first calls, 64 trajectories at once, 1,000 create-call-release cycles -> ratios

Run: python benchmarks/sandbox_speed.py [--backend NAME] [--jupyter-python PATH], PATH being an interpreter that has
ipykernel, jupyter_client and the scientific packages (default: this one, once the first two are installed). Exits with
1 if a target is missed. With --first-call it measures only the processor time of a trajectory's first call and its end,
which a busy machine changes less than wall time; PYTHONPATH=CHECKOUT in front of it measures another version.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil

from verl_axpo.tools.sandbox import SandboxConfig, SandboxPool, Session, choose
from verl_axpo.tools.sandbox.layout import PRELOAD

WARM_MS, TIMES_FASTER, AT_ONCE, CYCLES = 10.0, 20.0, 64, 1000  # the targets
FRESH = 100  # first calls measured
GROWTH_MB = 16.0  # resident memory that host and parent may have gained after all cycles: less than one worker uses

# Seconds from nothing to the answer of the first cell
JUPYTER = f"""
import time
from jupyter_client.manager import start_new_kernel
began = time.perf_counter()
manager, client = start_new_kernel(kernel_name="python3")
reply = client.execute_interactive("import {", ".join(PRELOAD)}; 1 + 1", timeout=300, output_hook=lambda message: None)
assert reply["content"]["status"] == "ok", reply
print(time.perf_counter() - began)
client.stop_channels()
manager.shutdown_kernel(now=True)
"""


async def seconds(action: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await action()
    return time.perf_counter() - began


async def warm(pool: SandboxPool, calls: int) -> float:
    """Median seconds of a call in a session that has had one."""
    session = Session(pool)
    await session.run("x = 0")
    times = [await seconds(lambda: session.run("x += 1; x")) for _ in range(calls)]
    assert (await session.run("x")).value == str(calls)
    await session.close()
    return statistics.median(times)


async def fresh(pool: SandboxPool, sessions: int) -> float:
    """Median seconds of the first call of a session."""
    times = []
    for _ in range(sessions):
        session = Session(pool)
        times.append(await seconds(lambda session=session: session.run("1 + 1")))
        await session.close()
    return statistics.median(times)


async def processor_ms(pool: SandboxPool, sessions: int) -> float:
    """Processor milliseconds, of all processes, for a session with one call."""
    await fresh(pool, 1)
    before = _processor_s(pool)
    await fresh(pool, sessions)
    return 1000 * (_processor_s(pool) - before) / sessions


def _processor_s(pool: SandboxPool) -> float:
    assert pool._zygote is not None
    own, tree = psutil.Process(), psutil.Process(pool._zygote.process.pid)
    times = [process.cpu_times() for process in (tree, *tree.children(recursive=True))]
    return sum(own.cpu_times()[:2]) + sum(sum(spent[:4]) for spent in times)  # of ended children as well


async def at_once(pool: SandboxPool, trajectories: int) -> tuple[float, int]:
    """Seconds for all of them together, and how many results were lost or belong to another."""

    async def trajectory(number: int) -> bool:
        session = Session(pool)
        first = await session.run(f"import numpy as np; mine = np.full(1000, {number}); print({number})")
        second = await session.run("int(mine.sum())")
        await session.close()
        return first.stdout == f"{number}\n" and second.value == str(1000 * number)

    began = time.perf_counter()
    right = await asyncio.gather(*(trajectory(number) for number in range(trajectories)))
    return time.perf_counter() - began, right.count(False)


async def cycles(pool: SandboxPool, count: int) -> dict[str, float]:
    """What is left after `count` create-call-release cycles."""

    async def cycle() -> None:
        session = Session(pool)
        assert (await session.run("open('file', 'w').write('x'); 1 + 1")).value == "2"
        await session.close()

    for _ in range(50):  # caches fill, allocators settle
        await cycle()
    before = footprint(pool)
    elapsed = await seconds(lambda: _repeat(cycle, count))
    after = footprint(pool)
    return {name: after[name] - before[name] for name in before} | {"ms per cycle": 1000 * elapsed / count}


async def _repeat(action: Callable[[], Awaitable[None]], count: int) -> None:
    for _ in range(count):
        await action()


def footprint(pool: SandboxPool) -> dict[str, float]:
    """Processes and memory of this process and the pool's, open descriptors, what the pools keep on disk."""
    assert pool._zygote is not None
    tree = [psutil.Process(), *psutil.Process(pool._zygote.process.pid).children(recursive=True)]
    kept = Path(tempfile.gettempdir()).glob("verl-axpo-sandbox-*")
    return {
        "processes": len(tree),
        "descriptors": sum(process.num_fds() for process in tree if process.is_running()),
        "files": sum(1 + len(list(folder.rglob("*"))) for folder in kept),
        "MB": sum(process.memory_info().rss for process in tree) / 2**20,
    }


def jupyter(python: str, repeats: int) -> float:
    """Median seconds from starting a kernel to the answer of its first cell."""
    command = [python, "-W", "ignore", "-c", JUPYTER]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(repeats)]
    return statistics.median(float(text) for text in runs)


async def main(options: argparse.Namespace) -> int:
    config = SandboxConfig(backend=options.backend)
    pool = SandboxPool(config, choose(config))
    start = await seconds(lambda: fresh(pool, 1))
    processor = await processor_ms(pool, FRESH)
    print(f"{pool.backend.name}: a first call takes {processor:.1f} ms of processor time", flush=True)
    if options.first_call:
        await pool.close()
        return 0
    kernel = jupyter(options.jupyter_python, 3)
    warm_ms, first = 1000 * await warm(pool, 300), await fresh(pool, FRESH)
    together, wrong = await at_once(pool, AT_ONCE)
    left = await cycles(pool, CYCLES)
    await pool.close()
    print(f"backend {pool.backend.name}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    checks = {
        f"parent started in {start:.2f} s, once per process": True,
        f"warm call: median {warm_ms:.2f} ms (below {WARM_MS:g})": warm_ms < WARM_MS,
        f"first call of a trajectory: median {1000 * first:.0f} ms; Jupyter with the same imports: {kernel:.2f} s; "
        f"{kernel / first:.0f}x faster (at least {TIMES_FASTER:g}x)": kernel / first >= TIMES_FASTER,
        f"{AT_ONCE} trajectories at once: {together:.1f} s, {wrong} lost or crossed results (0)": wrong == 0,
        f"{CYCLES} create-call-release cycles left: {left}": left["MB"] < GROWTH_MB
        and not any(left[name] > 0 for name in ("processes", "descriptors", "files")),
    }
    for text, met in checks.items():
        print("ok  " if met else "MISS", text)
    return int(not all(checks.values()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--first-call", action="store_true", help="measure only a first call's processor time")
    parser.add_argument("--jupyter-python", default=sys.executable)
    sys.exit(asyncio.run(main(parser.parse_args())))
