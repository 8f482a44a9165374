"""The names that belong to one run, with verl's own classes: two runs on a machine, and what a killed run leaves."""

import asyncio
import inspect
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from verl.workers.rollout.vllm_rollout import bucketed_weight_transfer as transfer
from verl.workers.rollout.vllm_rollout import vllm_async_server, vllm_rollout
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

from verl_axpo import lock
from verl_axpo.integration import run
from verl_axpo.integration.names import RUN_FOLDER, SEGMENTS, own_socket

# The name that every local Ray gives its first job
HANDLE = "ipc:///tmp/rl-colocate-zmq-01000000-replica-0-rank-0.sock"


@pytest.fixture
def folders() -> Iterator[list[Path]]:
    with tempfile.TemporaryDirectory(dir="/tmp") as base:  # a socket's name takes 107 characters, pytest's are longer
        made = [Path(base, "first"), Path(base, "second")]
        for folder in made:
            (folder / SEGMENTS).mkdir(parents=True)
        yield made


def test_two_runs_of_the_same_ray_job_number_keep_their_weights_apart(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both receivers wait before the first sender starts: with sockets of one name either could get the weights."""
    ends = []
    for folder in folders:
        monkeypatch.setenv(RUN_FOLDER, str(folder))
        sender = transfer.BucketedWeightSender(zmq_handle=HANDLE, bucket_size_mb=1, use_shm=True)
        ends.append((sender, transfer.BucketedWeightReceiver(HANDLE, torch.device("cpu"), use_shm=True)))

    def receive(receiver: Any) -> list[float]:
        received: list[float] = []
        receiver.receive_weights(lambda weights, is_last: received.extend(tensor[0].item() for _, tensor in weights))
        return received

    def send(sender: Any, value: float) -> None:
        asyncio.run(sender.async_send_weights(iter([("weight", torch.full((8,), value))])))

    with ThreadPoolExecutor(max_workers=4) as pool:
        receiving = [pool.submit(receive, receiver) for _, receiver in ends]
        for value, (sender, _) in reversed(list(enumerate(ends))):
            pool.submit(send, sender, float(value)).result(timeout=60)
        assert [future.result(timeout=60) for future in receiving] == [[0.0], [1.0]]


def test_outside_a_run_names_are_verls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RUN_FOLDER, raising=False)
    assert own_socket(HANDLE) == HANDLE
    monkeypatch.setenv(RUN_FOLDER, "/not/on/this/node")
    assert own_socket(HANDLE) == HANDLE
    sender = transfer.BucketedWeightSender(zmq_handle=HANDLE)
    assert sender.zmq_handle == HANDLE


def test_the_patch_of_the_sockets_is_still_needed() -> None:
    """When verl's names contain more than the number of the Ray job, this test fails and the patch can go."""
    made = 'f"ipc:///tmp/rl-colocate-zmq-{job_id}-replica-{self.replica_rank}-rank-{local_rank}.sock"'
    assert made in inspect.getsource(vllm_rollout)
    assert 'os.environ.get("VERL_RAY_JOB_ID", "0")' in inspect.getsource(vLLMColocateWorkerExtension._get_zmq_handle)
    assert 'os.environ["VERL_RAY_JOB_ID"] = ray.get_runtime_context().get_job_id()' in inspect.getsource(
        vllm_async_server
    )


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that a run began in a temporary folder of the test's, with a segment in it."""
    monkeypatch.setattr(run, "base", lambda: str(tmp_path))
    folder = tmp_path / f"{run.PREFIX}killed"
    (folder / SEGMENTS).mkdir(parents=True)
    script = (
        "from verl_axpo import lock; from verl_axpo.integration.names import note_segments; note_segments()\n"
        "from multiprocessing.shared_memory import SharedMemory\n"
        f"lock.own({str(folder)!r}); print(SharedMemory(create=True, size=64).name, flush=True)\n"
        "import os, time; time.sleep(600)\n"
    )
    environment = {**os.environ, RUN_FOLDER: str(folder), "PYTHONPATH": str(Path(__file__).parents[2])}
    owner = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True,
                             start_new_session=True)  # fmt: skip
    assert owner.stdout is not None
    segment = owner.stdout.readline().strip()
    assert [note.name for note in (folder / SEGMENTS).iterdir()] == [segment]
    run.remove_stale()
    assert folder.is_dir()  # it has an owner
    os.killpg(owner.pid, 9)  # with the tracker of its segments, as Ray does
    owner.wait()
    return folder


def test_the_next_run_clears_what_a_killed_one_left(left: Path) -> None:
    segment = next((left / SEGMENTS).iterdir()).name
    assert Path("/dev/shm", segment).exists()
    run.remove_stale()
    assert not left.exists()
    assert not Path("/dev/shm", segment).exists()


def test_a_folder_in_the_making_is_not_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "base", lambda: str(tmp_path))
    (tmp_path / f"{run.PREFIX}new").mkdir()
    run.remove_stale()
    assert (tmp_path / f"{run.PREFIX}new").is_dir()
    lock.own(tmp_path / f"{run.PREFIX}new")
    run.remove_stale()
    assert (tmp_path / f"{run.PREFIX}new").is_dir()


def test_a_long_temporary_folder_is_no_place_for_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    for usual, expected in (("/var/tmp", "/var/tmp"), ("/scratch/users/somebody/jobs/1234567/tmp", "/tmp")):
        monkeypatch.setattr(tempfile, "tempdir", usual)
        assert run.base() == expected
    socket = f"/{'b' * (run.SOCKET_BASE - 1)}/{run.PREFIX}12345678/rl-colocate-zmq-01000000-replica-100-rank-15.sock"
    assert len(socket) <= 107
