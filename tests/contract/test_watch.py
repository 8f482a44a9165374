"""The driver's watch on a real Ray, without verl: whichever process dies, the last line on the screen names it.

The actors are named and owned as in a run: the driver starts a trainer, the trainer starts a worker, and the driver
waits only for the trainer, which never ends.
"""

import inspect
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from verl.trainer import main_ppo

DRIVER = """
import os, sys, time
from pathlib import Path
import ray
from verl_axpo.integration.run import begin
from omegaconf import OmegaConf

environment = begin(OmegaConf.create({"algorithm": {"adv_estimator": "axpo"}, "trainer": {"default_local_dir": "run"}}))
quick = {"enable_worker_prestart": False, "prestart_worker_first_driver": False}
runtime_env = {"env_vars": environment}
ray.init(num_cpus=4, include_dashboard=False, _system_config=quick, runtime_env=runtime_env, log_to_driver=False)

@ray.remote
class RewardLoopWorker:
    def pid(self):
        return os.getpid()

@ray.remote
class TaskRunnerV1:
    def run(self):
        from multiprocessing.shared_memory import SharedMemory
        from verl_axpo.integration.names import note_segments
        note_segments()  # as our plugin does in every process; verl itself takes many seconds to import
        self.worker = RewardLoopWorker.options(name="reward_loop_worker_0").remote()
        passing = RewardLoopWorker.remote()
        ray.get(passing.pid.remote())
        del passing  # an actor that nobody needs any more has not died
        SharedMemory(create=True, size=64)
        Path("worker").write_text(str(ray.get(self.worker.pid.remote())))
        Path("trainer").write_text(str(os.getpid()))
        Path("folder").write_text(os.environ["TMPDIR"])
        Path("segments").write_text(" ".join(os.listdir(os.environ["TMPDIR"] + "/segments")))
        Path("ready").touch()
        while not Path("stop").exists():
            time.sleep(0.1)

ray.get(TaskRunnerV1.remote().run.remote())
"""


RAY_ITSELF = ("raylet", "gcs_server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A driver that has started, in its folder."""

    process: subprocess.Popen[str]
    folder: Path

    def pid(self, name: str) -> int:
        return int((self.folder / name).read_text())

    def ends(self) -> str:
        """Wait for the end, at most the promised minute; returns the output."""
        output, _ = self.process.communicate(timeout=60)
        return output


def start(folder: Path, *words: str) -> Run:
    (folder / "driver.py").write_text(DRIVER)
    process = subprocess.Popen(
        [*words, sys.executable, str(folder / "driver.py")],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # because these tests may run under nohup
    )
    run = Run(process=process, folder=folder)
    deadline = time.monotonic() + 120
    while not (folder / "ready").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return run


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    started = start(tmp_path)
    yield started
    started.process.kill()
    started.process.wait()


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def named(run: Run, name: str) -> int:
    return next(child.pid for child in descendants(run.process) if child.name() == name)


@pytest.mark.parametrize(
    ("process", "words"),
    [
        ("worker", "RewardLoopWorker reward_loop_worker_0 (pid {pid}) died: "),
        ("trainer", "TaskRunnerV1 (pid {pid}) died: "),
        ("raylet", "Ray's raylet (pid {pid}) died: killed by SIGKILL"),
        ("gcs_server", "Ray's gcs_server (pid {pid}) died: killed by SIGKILL"),
    ],
)
def test_every_death_ends_the_run_with_a_last_line_that_names_it(run: Run, process: str, words: str) -> None:
    pid = named(run, process) if process in RAY_ITSELF else run.pid(process)
    family = descendants(run.process)
    os.kill(pid, signal.SIGKILL)
    output = run.ends()
    assert run.process.returncode != 0
    said = [line for line in output.splitlines() if line.startswith("axpo: the run ended because ")]
    assert said, output[-3000:]
    assert said[-1].removeprefix("axpo: the run ended because ").startswith(words.format(pid=pid))
    assert said[-1] == output.strip().splitlines()[-1]
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []


def test_nothing_of_a_run_stays_in_temporary_folders_or_shared_memory(run: Run) -> None:
    folder, segments = Path((run.folder / "folder").read_text()), (run.folder / "segments").read_text().split()
    assert folder.is_dir()
    assert [Path("/dev/shm", name).exists() for name in segments] == [True]
    (run.folder / "stop").touch()
    assert "axpo:" not in run.ends()  # the regular end of a run is no death
    assert run.process.returncode == 0
    assert not folder.exists()
    assert not Path("/dev/shm", segments[0]).exists()


def test_a_closed_terminal_ends_the_run_as_ctrl_c_does(run: Run) -> None:
    family = descendants(run.process)
    os.kill(run.process.pid, signal.SIGHUP)
    assert "KeyboardInterrupt" in run.ends()
    assert psutil.wait_procs(family, timeout=5)[1] == []


def test_a_killed_wrapper_ends_the_run(tmp_path: Path) -> None:
    run = start(tmp_path, "sh", "-c", '"$@"; exit $?', "wrapper")
    family = descendants(run.process)
    run.process.kill()
    run.ends()  # the end of its output: the driver has closed it
    assert psutil.wait_procs(family, timeout=5)[1] == []


def test_under_nohup_it_continues_without_wrapper_and_terminal(tmp_path: Path) -> None:
    run = start(tmp_path, "nohup", "sh", "-c", '"$@"; exit $?', "wrapper")
    family = descendants(run.process)
    driver = next(child for child in family if "driver.py" in " ".join(child.cmdline()))
    run.process.kill()
    driver.send_signal(signal.SIGHUP)
    with pytest.raises(psutil.TimeoutExpired):
        driver.wait(6)
    (tmp_path / "stop").touch()
    run.ends()
    assert psutil.wait_procs(family, timeout=5)[1] == []


def test_a_second_run_in_the_same_folder_is_refused_and_the_first_is_named(run: Run) -> None:
    second = subprocess.run(
        [sys.executable, "driver.py"], cwd=run.folder, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert second.returncode != 0
    assert f"belongs to another run, pid {run.process.pid} on " in second.stderr.strip().splitlines()[-1]
    os.kill(run.process.pid, signal.SIGKILL)  # the lock of a dead process does not count
    run.process.wait()
    (run.folder / "ready").unlink()
    start(run.folder).process.kill()


def test_rays_tables_are_where_the_watch_reads_them() -> None:
    """Private to Ray, which has no public call for it without its dashboard."""
    from ray._private import node, ray_constants, state

    assert list(inspect.signature(state.actors).parameters) == ["actor_id", "job_id", "actor_state_name"]
    assert {ray_constants.PROCESS_TYPE_RAYLET, ray_constants.PROCESS_TYPE_GCS_SERVER} == {"raylet", "gcs_server"}
    assert "process.poll() is None" in inspect.getsource(node.Node.live_processes)
    assert "process.poll() is not None" in inspect.getsource(node.Node.dead_processes)


def test_verl_asks_for_the_runs_environment_right_before_ray_starts() -> None:
    """The patch of get_ppo_ray_runtime_env can go when verl has a hook for plugins at the start of a run."""
    text = inspect.getsource(main_ppo.run_ppo)
    assert text.index("get_ppo_ray_runtime_env(config)") < text.index("ray.init(**")
    assert getattr(main_ppo.get_ppo_ray_runtime_env, "wrapped_by_axpo", False)
    assert "plugin" not in inspect.getsource(main_ppo)
