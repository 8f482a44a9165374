"""Every attack is contained, leaves the next call healthy, and touches nobody else."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.unit.tools.attacks import ATTACKS, ESCAPED, PRELUDE
from verl_axpo.tools.sandbox import SandboxPool, Session

pytestmark = pytest.mark.asyncio(loop_scope="module")
SECRET = "6f1c2a"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Things of the host that attacks go after."""

    file: Path
    port: int
    socket: Path
    bystander: "subprocess.Popen[bytes]"

    @property
    def facts(self) -> str:
        """The first lines of every attack."""
        return (
            f"host_file, host_port = {str(self.file)!r}, {self.port}\n"
            f"host_socket, host_pid = {str(self.socket)!r}, {self.bystander.pid}\n"
        )

    def check_untouched(self) -> None:
        assert self.file.read_text() == SECRET
        assert sorted(self.file.parent.iterdir()) == sorted([self.file, self.socket])
        assert self.bystander.poll() is None


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
        yield Host(file=secret, port=tcp.getsockname()[1], socket=folder / "socket", bystander=bystander)
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
        assert (await neighbour.run("secret, open('mine').read()")).text == "(42, 'neighbour')"
        host.check_untouched()
    finally:
        await session.close()
    assert len(os.listdir("/proc/self/fd")) <= descriptors


async def test_the_corpus_is_as_large_as_it_should_be() -> None:
    assert len(ATTACKS) >= 40
