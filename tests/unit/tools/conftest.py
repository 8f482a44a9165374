"""The python sandbox as the tests use it: one pool per backend that this machine has, with small limits."""

import uuid
from collections.abc import AsyncIterator
from functools import cache

import pytest
import pytest_asyncio

from verl_axpo.tools.sandbox import SandboxConfig, SandboxPool
from verl_axpo.tools.sandbox.backends import BACKENDS, INSTALL, Backend
from verl_axpo.tools.sandbox.limits import UNCONFINED
from verl_axpo.tools.sandbox.probe import trial

# Small, because other things run on this machine as well
SMALL = SandboxConfig(
    timeout_s=30,
    memory_mb=256,
    cpu_s=60,
    threads=8,
    scratch_mb=16,
    open_files=32,
    output_bytes=2000,
    images=3,
    image_pixels=512 * 512,
    max_sandboxes=8,
)


@cache
def usable_backends() -> tuple[Backend, ...]:
    """Those that confine a process here."""
    return tuple(backend for name, backend in BACKENDS.items() if name != UNCONFINED and trial(backend, SMALL) is None)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test of a sandbox runs once per backend; without any it fails and says what to install."""
    if "backend" in metafunc.fixturenames:
        backends = usable_backends() or (None,)
        names = [backend.name if backend else "none" for backend in backends]
        metafunc.parametrize("backend", backends, ids=names, indirect=True, scope="module")


@pytest.fixture(scope="module")
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn."""
    if request.param is None:
        pytest.fail(f"no sandbox on this machine: {INSTALL}")
    chosen: Backend = request.param
    return chosen


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(backend: Backend) -> AsyncIterator[SandboxPool]:
    """A pool whose parent is shared by the tests of a module."""
    made = SandboxPool(SMALL, backend)
    yield made
    await made.close()


@pytest.fixture
def own_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Places that no sandbox of another test takes."""
    monkeypatch.setenv("RAY_RAYLET_PID", uuid.uuid4().hex)
