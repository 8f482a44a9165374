"""A training of the tiny model is started several times. Each start loses another process; the last one finishes.

Each start goes on from the last one's checkpoint, makes a step, and is hit during the rollouts of the next one. Two
minutes of start-up for each on two free cores, so not part of every run:
`bash tests/run.sh tests/e2e/test_process_faults.py`, with `-k wrapper` or the like for one kind of process.
"""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import REPO, RUN_TIMEOUT_S, TWO_OF_EACH, FastRun
from verl_axpo.audit import audit
from verl_axpo.integration.run import PREFIX, base
from verl_axpo.trace.reader import list_steps, read_step

MINUTE_S = 60
WRAPPER = "import pathlib, sys; from verl_axpo.progress import run; _, log, *words = sys.argv; "
WRAPPER += "sys.exit(run('RL', pathlib.Path(log), words))"
ALL_ENDED_S = 90  # Ray's own agents of a killed driver give up on their node after 60 s; all else ends at once
INTO_ROLLOUTS_S = 1.0  # after a step's trace: the update of the weights takes 0.1 s, the next rollouts take seconds
# Command line of the process -> what the last line on the screen says of it; None: no process is left to print it
DEATHS = {
    "ray::RewardLoopWorker": "RewardLoopWorker reward_loop_worker_0 (pid {pid}) died: ",
    "ray::AxpoAgentLoopWorker": "AgentLoopWorkerTQ agent_loop_worker_0",  # Ray knows it by verl's class
    "ray::BudgetCoordinator": "BudgetCoordinator (pid {pid}) died: ",
    "ray::WorkerDict": "WorkerDict",
    "ray::SimpleStorageUnit": "SimpleStorageUnit",
    "ray::vLLMHttpServer": "vLLMHttpServer",
    "VLLM::EngineCore": "vLLM's engine of replica 0 died: EngineCore (pid {pid}) killed by SIGKILL",
    "VLLM::Worker": "vLLM's engine of replica 0 died: ",
    "ray::TaskRunnerV1": "TaskRunnerV1 (pid {pid}) died: ",
    "verl.trainer.main_ppo": None,
    "verl_axpo.progress": None,
}
# The same with two of each, so that another process of the same kind is still alive
DEATHS_OF_TWO = {
    "ray::AxpoAgentLoopWorker": "AgentLoopWorkerTQ agent_loop_worker_",
    "VLLM::EngineCore": "EngineCore (pid {pid}) killed by SIGKILL",
    "ray::RewardLoopWorker": "(pid {pid}) died: ",
}
ORDINARY_ROWS = 16 * 8  # of a step that lost no rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A training in `folder`, started again and again."""

    folder: Path
    fast_run: FastRun
    overrides: tuple[str, ...] = ()

    def start(self, steps: int) -> subprocess.Popen[str]:
        """The wrapper around verl's own `main_ppo`, as a recipe has it."""
        world = self.fast_run.world
        command = [
            sys.executable, "-m", "verl.trainer.main_ppo", "--config-name", "tiny_rl",
            f"data.train_files={world}/train.parquet", f"data.val_files={world}/val.parquet",
            f"actor_rollout_ref.model.path={self.fast_run.model}",
            f"actor_rollout_ref.rollout.multi_turn.tool_config_path={world}/tools.yaml",
            f"trainer.default_local_dir={self.folder}/checkpoints", f"algorithm.axpo.trace_dir={self.folder}/trace",
            f"hydra.run.dir={self.folder}/hydra", f"trainer.total_training_steps={steps}", "trainer.save_freq=1",
            "trainer.max_actor_ckpt_to_keep=1", "algorithm.axpo.seed=0", "trainer.logger=[console]",
            "trainer.val_before_train=false", "trainer.test_freq=-1", *self.overrides,
        ]  # fmt: skip
        wrapper = [sys.executable, "-c", WRAPPER, str(self.folder / "rl.log")]
        return subprocess.Popen(
            [*wrapper, *command], cwd=self.folder, text=True, stdout=subprocess.PIPE, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(REPO), "HYDRA_FULL_ERROR": "0"},
        )  # fmt: skip

    @property
    def traced(self) -> int:
        """The last step whose trace is whole."""
        return max((int(path.name[5:11]) for path in self.folder.glob("trace/step_*.summary.json")), default=0)

    def wait_for(self, step: int, process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + RUN_TIMEOUT_S
        while self.traced < step:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, f"no step {step} within {RUN_TIMEOUT_S} s"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def training(fast_run: FastRun, tmp_path_factory: pytest.TempPathFactory) -> Training:
    return Training(folder=tmp_path_factory.mktemp("faults"), fast_run=fast_run)


@pytest.fixture(scope="module")
def training_of_two(fast_run: FastRun, tmp_path_factory: pytest.TempPathFactory) -> Training:
    return Training(folder=tmp_path_factory.mktemp("two"), fast_run=fast_run, overrides=tuple(TWO_OF_EACH))


def temporary_files() -> set[Path]:
    """What runs leave in shared memory and temporary folders."""
    return {*Path("/dev/shm").iterdir(), *Path(base()).glob(f"{PREFIX}*"), *Path("/tmp").glob("rl-colocate-zmq-*")}


def kill(training: Training, victim: str) -> tuple[int, str]:
    """Lose a process of the kind during the rollouts; its pid, and what the screen shows once all have ended."""
    done = training.traced
    process = training.start(steps=100)
    training.wait_for(done + 1, process)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    time.sleep(INTO_ROLLOUTS_S)
    # The wrapper's command line has the driver's in it
    pid = next(member.pid for member in family if victim in " ".join(member.cmdline()[:3]))
    os.kill(pid, signal.SIGKILL)
    screen = process.communicate(timeout=MINUTE_S)[0]
    _, alive = psutil.wait_procs(family[1:], timeout=ALL_ENDED_S)
    assert alive == []
    assert process.returncode != 0
    assert training.traced <= done + 2  # the processes that were left made no further step
    return pid, " ".join(screen.split())


def goes_on(training: Training) -> None:
    """Make one more step; the audit finds no difference, and no rollout is missing."""
    steps = training.traced + 1
    process = training.start(steps)
    screen = process.communicate(timeout=RUN_TIMEOUT_S)[0]
    assert process.returncode == 0, screen
    trace = training.folder / "trace"
    assert list_steps(trace) == list(range(1, steps + 1))
    result = audit(trace)
    assert (result.steps, result.differences) == (steps, ())
    assert sum(record.kind == "rollout" for record in read_step(trace, steps).records) == ORDINARY_ROWS


@pytest.mark.slow
@pytest.mark.parametrize("victim", DEATHS)
def test_every_death_ends_within_a_minute_in_its_name(training: Training, victim: str) -> None:
    before = temporary_files()
    pid, screen = kill(training, victim)
    if words := DEATHS[victim]:
        assert f"the run ended because {words.format(pid=pid)}" in screen
        assert temporary_files() <= before


@pytest.mark.slow
def test_the_training_that_lost_them_all_continues_and_audits(training: Training) -> None:
    goes_on(training)


@pytest.mark.slow
@pytest.mark.parametrize("victim", DEATHS_OF_TWO)
def test_a_death_ends_a_run_that_has_another_of_the_kind(training_of_two: Training, victim: str) -> None:
    before = temporary_files()
    pid, screen = kill(training_of_two, victim)
    assert "the run ended because" in screen
    assert DEATHS_OF_TWO[victim].format(pid=pid) in screen
    assert temporary_files() <= before


@pytest.mark.slow
def test_the_training_with_two_of_each_continues_and_audits(training_of_two: Training) -> None:
    goes_on(training_of_two)
