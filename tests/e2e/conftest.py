"""The real stack: one run of `FAST=1 bash recipes/run_tiny_axpo.sh` makes what the other tests read.

The run is killed once and started again, so every test of its files also tests a resumed run. Everything
runs in temporary folders, never in the checkout. The logs stay there; a failure's message shows the end of its log.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

REPO = Path(__file__).parents[2]
TINY_RECIPE = ["bash", str(REPO / "recipes/run_tiny_axpo.sh")]
RUN_TIMEOUT_S = 1300  # a tiny RL run takes one to three minutes on two cores, the whole FAST recipe about six
TAIL_LINES = 40
LAST_STEP = "checkpoints/latest_checkpointed_iteration.txt"  # verl records the last checkpoint here
STEPS = 3  # of the FAST run: two in one process, then the kill, then the third
# Most of the time is start-up, one process after the other, so tests/run.sh runs two files at a time. xdist hands out
# the files in this order, and one ahead while two tests or fewer are left. The judge needs no FAST run: it comes early.
ORDER = (
    "test_recipe",
    "test_judge",
    "test_identity",
    "test_sft_golden",
    "test_gradient",
    "test_two_of_each",
    "test_asynchronous",
    "test_allocation",
    "test_eval",
    "test_barrier",
)
# What a config that is not made for the tiny model needs to train it here
TINY_SIZES = [
    "+platform=cpu",
    "data.train_batch_size=16",
    "data.max_prompt_length=192",
    "data.max_response_length=128",
    "actor_rollout_ref.rollout.max_model_len=512",
    "actor_rollout_ref.rollout.max_num_batched_tokens=8192",
    "actor_rollout_ref.rollout.max_num_seqs=128",
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=64",
    "actor_rollout_ref.actor.ppo_mini_batch_size=16",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=32",
    "reward.custom_reward_function.path=pkg://verl_axpo.rewards.outcome",
    "trainer.val_before_train=false",
    "trainer.test_freq=-1",
]
# A plain GRPO command with the one switch
PLAIN_GRPO = [
    *TINY_SIZES,
    "algorithm.adv_estimator=axpo",
    "actor_rollout_ref.rollout.n=8",
    "actor_rollout_ref.rollout.multi_turn.max_assistant_turns=3",
]
# Two FSDP ranks, two vLLM replicas, two rollout workers, two reward workers, two storage units
TWO_OF_EACH = [
    "trainer.n_gpus_per_node=2",
    "ray_kwargs.ray_init.num_gpus=2",
    "actor_rollout_ref.rollout.agent.num_workers=2",
    "reward.num_workers=2",
    "transfer_queue.backend.SimpleStorage.num_data_storage_units=2",
]
# A step of size 1: the change of the weights is the gradient
SGD = [
    "actor_rollout_ref.actor.optim.optimizer=SGD",
    "actor_rollout_ref.actor.optim.lr=1.0",
    "actor_rollout_ref.actor.optim.weight_decay=0.0",
    "actor_rollout_ref.actor.grad_clip=1e9",
    "actor_rollout_ref.actor.optim.clip_grad=1e9",  # the one that verl's engines read
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FastRun:
    """The recipe's output folder."""

    out: Path

    @property
    def trace_when_killed(self) -> Path:
        """A copy of the trace as the kill left it."""
        return self.out.parent / "trace_when_killed"

    @property
    def step_when_killed(self) -> int:
        """The last step with a checkpoint at the kill, from which the run went on."""
        return int((self.trace_when_killed / Path(LAST_STEP).name).read_text())

    @property
    def world(self) -> Path:
        return self.out / "world"

    @property
    def model(self) -> Path:
        return self.out / "sft" / "checkpoint"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files in `ORDER`; files that it does not name come last."""
    items.sort(key=lambda item: ORDER.index(item.path.stem) if item.path.stem in ORDER else len(ORDER))


def run(command: list[str], log: Path, **environment: str) -> None:
    """Run to the end, or fail with the end of the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        done = subprocess.run(
            command,
            cwd=log.parent,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            timeout=RUN_TIMEOUT_S,
            check=False,
        )
    if done.returncode:
        pytest.fail(f"{' '.join(command)}\nexit status {done.returncode}; the end of {log}:\n{tail(log)}")


def tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])


def settings(out: Path, **environment: str) -> dict[str, str]:
    """The environment of the FAST run in `out`."""
    return {"OUT": str(out), "FAST": "1", "STEPS": str(STEPS), **environment}


def kill_in_last_step(out: Path, log: Path) -> None:
    """Start the recipe and kill all its processes with SIGKILL as soon as the last step but one is traced."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            TINY_RECIPE, stdout=output, stderr=output, start_new_session=True, env={**os.environ, **settings(out)}
        )
    deadline = time.monotonic() + RUN_TIMEOUT_S
    while not (out / f"trace/step_{STEPS - 1:06d}.summary.json").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"no trace of step {STEPS - 1} that the kill waits for; the end of {log}:\n{tail(log)}")
        time.sleep(0.2)
    kill_tree(process.pid)
    process.wait()


def kill_tree(pid: int) -> None:
    """SIGKILL to the process and all its descendants, as when a machine loses power."""
    for process in [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other pytest process is in here."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def fast_run(tmp_path_factory: pytest.TempPathFactory) -> FastRun:
    """The recipe with FAST=1, killed in its last step and started again; one for all pytest processes.

    While you work on a test, AXPO_FAST_RUN names the folder of an earlier run (its `out`, see a failure's message).
    """
    if "AXPO_FAST_RUN" in os.environ:
        return FastRun(out=Path(os.environ["AXPO_FAST_RUN"]))
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "fast"
    fast = FastRun(out=folder / "tiny_axpo")
    with locked(folder.with_suffix(".lock")):
        if not folder.exists():
            folder.mkdir()
            kill_in_last_step(fast.out, folder / "killed.log")
            shutil.copytree(fast.out / "trace", fast.trace_when_killed)
            shutil.copy(fast.out / LAST_STEP, fast.trace_when_killed)
            run(TINY_RECIPE, folder / "resumed.log", **settings(fast.out))
            (folder / "done").touch()
    if not (folder / "done").exists():
        pytest.fail(f"the FAST run failed in another pytest process; its logs are in {folder}")
    return fast


def text_only(source: Path, target: Path) -> Path:
    """The questions of a file that have no image."""
    table = pq.read_table(source)
    pq.write_table(table.filter(pc.equal(pc.list_value_length(table["images"]), 0)), target)
    return target


MainPpo = Callable[..., Path]


@pytest.fixture
def main_ppo(fast_run: FastRun, tmp_path: Path) -> MainPpo:
    """`main_ppo(name, *overrides, steps=1)`: steps of verl's own `main_ppo` from the SFT checkpoint; its folder."""

    def start(name: str, *overrides: str, steps: int = 1) -> Path:
        folder = tmp_path / name
        common = [
            f"data.train_files={fast_run.world}/train.parquet",
            f"data.val_files={fast_run.world}/val.parquet",
            f"actor_rollout_ref.model.path={fast_run.model}",
            f"actor_rollout_ref.rollout.multi_turn.tool_config_path={fast_run.world}/tools.yaml",
            f"trainer.default_local_dir={folder}/checkpoints",
            f"trainer.total_training_steps={steps}",
            f"trainer.save_freq={steps}",
            "actor_rollout_ref.actor.checkpoint.save_contents=[model]",
        ]
        run([sys.executable, "-m", "verl.trainer.main_ppo", *overrides, *common], folder / "run.log")
        return folder

    return start


def trained_weights(folder: Path, step: int = 1) -> dict[str, torch.Tensor]:
    """The trainer's own float32 weights after `step`, its ranks' shards put together; verl rounds those that it saves
    for Hugging Face to bfloat16."""
    paths = sorted((folder / f"checkpoints/global_step_{step}/actor").glob("model_world_size_*_rank_*.pt"))
    ranks = [torch.load(path, map_location="cpu", weights_only=False) for path in paths]  # written by the run above
    return {name: whole([rank[name] for rank in ranks]) for name in ranks[0]}


def whole(parts: list[Any]) -> torch.Tensor:
    """A weight of which FSDP2 gave every rank some of the first dimension; what it does not shard is whole already."""
    local = [getattr(part, "_local_tensor", None) for part in parts]
    return torch.cat(local) if local[0] is not None else parts[0]
