"""How long `verl-axpo view` takes with a run of the paper's size, from its start to what a reader sees in Chromium.

    python benchmarks/view_cost.py [--steps 145] [--rows 2500] [--tokens 8192]

One step is made and linked under every number (hard links), so 145 steps take the disk space of one; the page knows
nothing of that, and opens steps that it has not read before. "Pause" is the longest time between two frames while the
list of a step's questions is scrolled from top to bottom; a frame of this browser takes 17 ms.
"""

import argparse
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, expect, sync_playwright
from trace_cost import packed_row, traced

from verl_axpo.trace import TraceWriter
from verl_axpo.trace.reader import records_path, summary_path

SCROLL = """async () => {
  const table = document.querySelector(".table");
  let last = performance.now(), longest = 0;
  for (let top = 0; top < table.scrollHeight; top += 150) {
    table.scrollTop = top;
    await new Promise(requestAnimationFrame);
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  }
  return longest;
}"""


def make(folder: Path, steps: int, rows: int, tokens: int) -> None:
    """A trace of many steps with the rows of one."""
    rng = np.random.default_rng(0)
    records, summary = traced([packed_row(at, tokens, rng) for at in range(rows)], tokens, step=1)
    with TraceWriter(folder) as trace:
        trace.write_step(records, summary)
        trace.flush()
    for step in range(2, steps + 1):
        os.link(records_path(folder, 1), records_path(folder, step))
        summary_path(folder, step).write_bytes(replace(summary, step=step, num_records=rows).to_json())


@contextmanager
def timed(what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    print(f"  {what}: {time.perf_counter() - started:.2f} s", flush=True)


def look(page: Page, trace: Path, steps: int, tokens: int) -> None:
    """From the command to a token."""
    command = ["verl-axpo", "view", str(trace), "--serve"]
    with timed("the command, until the run's curves and steps are shown"):
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found
        page.goto(found[0])
        expect(page.locator("a.line").first).to_be_visible()
    try:
        for step, how in ((steps, "for the first time"), (steps, "again")):
            page.goto(f"{found[0]}#/")
            with timed(f"a step's questions {how}"):
                page.goto(f"{found[0]}#/{step}")
                expect(page.locator("a.line").first).to_be_visible(timeout=60_000)
        print(f"  longest pause while scrolling: {page.evaluate(SCROLL):.0f} ms")
        with timed("a question as a tree"):
            page.goto(f"{found[0]}#/{steps}/q0")
            expect(page.locator("a.node").first).to_be_visible()
        with timed("a trajectory"):
            page.goto(f"{found[0]}#/{steps}/q0/0")
            expect(page.locator("article")).to_be_visible()
        with timed(f"its {tokens} tokens"):
            page.keyboard.press("t")
            expect(page.locator(".token")).to_have_count(tokens)
        status = Path(f"/proc/{server.pid}/status").read_text()
        peak = int(re.findall(r"VmHWM:\s+(\d+)", status)[0])  # kB
        print(f"  memory of the server: {peak / 1024:.0f} MB")
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    """Make the run, look at it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"--steps": 145, "--rows": 2500, "--tokens": 8192}.items():
        parser.add_argument(name, type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        make(Path(folder), options.steps, options.rows, options.tokens)
        size = records_path(folder, 1).stat().st_size * options.steps
        print(f"{options.steps} steps x {options.rows} rows x {options.tokens} tokens, {size / 1e9:.0f} GB in links")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        look(browser.new_page(viewport={"width": 1280, "height": 800}), Path(folder), options.steps, options.tokens)
        browser.close()


if __name__ == "__main__":
    main()
