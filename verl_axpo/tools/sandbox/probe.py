"""Which backend works here: each that is installed confines a real process, which then tries to break out.

choose(config) -> obstacle(), by a trial(), per candidate -> the first that held, named in the log; else RuntimeError
"""

import asyncio
import logging
import os
import secrets
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from verl_axpo.errors import InfraFailure
from verl_axpo.tools.sandbox.backends import BACKENDS, INSTALL, Backend
from verl_axpo.tools.sandbox.limits import CHOICE, UNCONFINED, SandboxConfig
from verl_axpo.tools.sandbox.pool import SandboxPool
from verl_axpo.tools.sandbox.session import Session

logger = logging.getLogger(__name__)

_ATTEMPT = """
import os, resource, socket
secret, neighbour = {secret!r}, {neighbour!r}
def blocked(action):
    try:
        action()
    except OSError:
        return True
    return False
checks = dict(
    reads_files=blocked(lambda: open(secret).read()),
    writes_files=blocked(lambda: open(neighbour, "w").write("x")),
    opens_sockets=blocked(lambda: socket.socket(socket.AF_INET)),
    starts_processes=blocked(os.fork),
    signals_the_host=blocked(lambda: os.kill({host}, 0)),
    limits_the_host=blocked(lambda: resource.prlimit({host}, resource.RLIMIT_CORE)),
    changes_metadata=blocked(lambda: os.chmod(secret, 0)),
)
print(*[name for name, held in checks.items() if not held])
"""


def choose(config: SandboxConfig) -> Backend:
    """The backend to use on this machine. Takes a fraction of a second; starts and ends real processes.

    Raises:
        RuntimeError: none confines a process here, and the configuration does not accept that.
    """
    if config.backend == UNCONFINED:
        logger.warning("python sandbox: UNCONFINED, as configured: the model's code can read and change what you can")
        return BACKENDS[UNCONFINED]
    problems = []
    for name, backend in BACKENDS.items():
        if name == UNCONFINED or config.backend not in ("auto", name):
            continue
        problem = obstacle(backend, config)
        if problem is None:
            logger.warning("python sandbox: confined by %s", name)  # verl runs at WARNING, and this must be seen
            return backend
        problems.append(f"{name}: {problem}")
    tried = "; ".join(problems)
    raise RuntimeError(
        f"the python tool has no sandbox on this machine ({tried}). Fix: {INSTALL}. To run a model's code as an "
        f"ordinary process instead, which can read and change all that you can, set backend: {UNCONFINED}"
    )


def obstacle(backend: Backend, config: SandboxConfig) -> str | None:
    """Why `backend` is not to be used here under `config`; None if it is."""
    problem = trial(backend, config)
    if problem is None and backend.leaves_open and config.backend != backend.name:
        accept = f"set backend: {backend.name} in the tool's config, or {CHOICE}={backend.name} in the environment"
        return f"works here, but not by default: {backend.leaves_open}. To accept that, {accept}"
    return problem


def trial(backend: Backend, config: SandboxConfig) -> str | None:
    """Why `backend` does not confine a process here; None if it does. May be called with or without an event loop."""
    missing = backend.missing()
    if missing is not None:
        return missing
    with ThreadPoolExecutor(max_workers=1) as thread:  # a loop of its own, whatever runs in the caller's
        return thread.submit(asyncio.run, _trial(backend, config)).result()


async def _trial(backend: Backend, config: SandboxConfig) -> str | None:
    pool = SandboxPool(config, backend, preload=("numpy",))  # shows that installed packages can be read inside
    try:
        with tempfile.TemporaryDirectory() as folder:
            secret, neighbour = Path(folder, "secret"), Path(folder, "neighbour")
            secret.write_text(secrets.token_hex())
            code = _ATTEMPT.format(secret=str(secret), neighbour=str(neighbour), host=os.getpid())
            result = await Session(pool).run(code, timeout_s=config.max_timeout_s)
        if result.status != "ok":
            return f"a trial run ended in {result.text[-300:]!r}"
        escaped = result.stdout.split()
        return f"a confined process still {', '.join(escaped)}" if escaped else None
    except (InfraFailure, OSError) as failure:
        return str(failure)
    finally:
        await pool.close()
