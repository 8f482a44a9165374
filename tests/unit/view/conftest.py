"""A real trace, and a browser that shows it."""

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.unit.eval.test_report import OUTCOMES, write
from tests.unit.trace.real import unpack
from verl_axpo.view.server import ViewServer
from verl_axpo.view.source import Source

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), "")


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Two real steps of 160 trajectories, older than some fields of the format."""
    return unpack(tmp_path)


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    """Two benchmarks of two questions; written in a thread, because a browser's loop runs in this one."""
    with ThreadPoolExecutor() as threads:
        return threads.submit(write, tmp_path / "evaluation", OUTCOMES).result()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of one module: while it is open, asynchronous tests cannot run in this process."""
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextmanager
def served(source: Source) -> Iterator[str]:
    """The page's address while a server runs."""
    with ViewServer(source) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()
