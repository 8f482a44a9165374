"""Every attack is contained, the next call works, and no other process is affected."""

import asyncio
import fcntl
import os
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from tests.unit.tools.attacks import ATTACKS, ESCAPED, PRELUDE
from verl_axpo.tools.sandbox import SandboxPool, Session

pytestmark = pytest.mark.asyncio(loop_scope="module")
SECRET = "6f1c2a"
RLIMITS = 16  # kinds of limits that Linux has


class Standing(NamedTuple):
    """What one process may do, as the kernel keeps it."""

    limits: tuple[tuple[int, int], ...]
    priority: int
    affinity: frozenset[int]
    policy: int
    library_mode: int

    @classmethod
    def of(cls, pid: int) -> "Standing":
        return cls(
            tuple(resource.prlimit(pid, kind) for kind in range(RLIMITS)),
            os.getpriority(os.PRIO_PROCESS, pid),
            frozenset(os.sched_getaffinity(pid)),
            os.sched_getscheduler(pid),
            os.stat(os.__file__).st_mode,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Things of the host that attacks try to reach."""

    file: Path
    port: int
    socket: Path
    bystander: "subprocess.Popen[bytes]"

    before: "Standing"

    @property
    def facts(self) -> str:
        """The first lines of every attack."""
        return (
            f"host_file, host_port = {str(self.file)!r}, {self.port}\n"
            f"host_socket, host_pid, trainer_pid = {str(self.socket)!r}, {self.bystander.pid}, {os.getpid()}\n"
        )

    def check_untouched(self) -> None:
        assert self.file.read_text() == SECRET
        assert sorted(self.file.parent.iterdir()) == sorted([self.file, self.socket])
        assert self.bystander.poll() is None
        assert [Standing.of(pid) for pid in (os.getpid(), self.bystander.pid)] == [self.before] * 2
        for path in (self.file, Path(os.__file__)):
            with path.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A secret file, a secret in the environment, two listeners and a process."""
    folder = tmp_path_factory.mktemp("host")
    secret = folder / "secret"
    secret.write_text(SECRET)
    with (
        pytest.MonkeyPatch.context() as patch,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as unix,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander,
    ):
        patch.setenv("AXPO_CANARY", SECRET)
        unix.bind(str(folder / "socket"))
        unix.listen()
        yield Host(
            file=secret,
            port=tcp.getsockname()[1],
            socket=folder / "socket",
            bystander=bystander,
            before=Standing.of(os.getpid()),
        )
        bystander.communicate(b"\n")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def neighbour(pool: SandboxPool, host: Host) -> AsyncIterator[Session]:
    """Another trajectory, with a variable, a file, and a thread that counts."""
    session = Session(pool)
    result = await session.run("secret = 6 * 7; open('mine', 'w').write('neighbour'); secret")
    assert result.text == "42"
    yield session
    await session.close()


@pytest.mark.parametrize("name", ATTACKS)
async def test_contained_and_the_next_call_is_healthy(
    pool: SandboxPool, host: Host, neighbour: Session, name: str
) -> None:
    attack, session = ATTACKS[name], Session(pool)
    descriptors = len(os.listdir("/proc/self/fd"))
    try:
        result = await session.run(host.facts + PRELUDE + attack.code, timeout_s=attack.timeout_s)
        assert ESCAPED not in result.text
        assert SECRET not in result.text
        assert result.status in attack.ends, result.text
        assert attack.says in result.text
        await asyncio.sleep(attack.pause_s)

        after = await session.run("1 + 1")
        assert (after.status, after.value, after.stdout) == ("ok", "2", "")
        assert len(result.text.encode()) < 12_000  # four texts of 2,000 bytes, and what marks them
        state = "import os; secret, open('mine').read(), os.getpriority(os.PRIO_PROCESS, 0)"
        assert (await neighbour.run(state)).text == f"(42, 'neighbour', {host.before.priority})"
        host.check_untouched()
    finally:
        await session.close()
    assert len(os.listdir("/proc/self/fd")) <= descriptors


async def test_the_corpus_is_as_large_as_it_should_be() -> None:
    assert len(ATTACKS) >= 40
