"""The real stack, once: `FAST=1 bash recipes/run_tiny_axpo.sh` makes what the other tests stand on.

Everything runs from temporary folders, never from the checkout; logs stay there, their end is in a failure's message.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

REPO = Path(__file__).parents[2]
RUN_TIMEOUT_S = 1300  # a tiny RL run takes one to three minutes on two cores, the whole FAST recipe about six
TAIL_LINES = 40
# What a config that knows nothing of the tiny model needs to train it here
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


@dataclass(frozen=True, slots=True, kw_only=True)
class FastRun:
    """The recipe's output folder and what was made on the way."""

    out: Path

    @property
    def world(self) -> Path:
        return self.out / "world"

    @property
    def model(self) -> Path:
        return self.out / "sft" / "checkpoint"


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
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
        pytest.fail(f"{' '.join(command)}\nexit status {done.returncode}; the end of {log}:\n{tail}")


def recipe(out: Path, **environment: str) -> None:
    """The README's command, quick, into `out`."""
    log = out.parent / f"{out.name}.log"
    run(["bash", str(REPO / "recipes/run_tiny_axpo.sh")], log, OUT=str(out), FAST="1", **environment)


@pytest.fixture(scope="session")
def fast_run(tmp_path_factory: pytest.TempPathFactory) -> FastRun:
    """The recipe with FAST=1; while working on one test, AXPO_FAST_RUN names the output of an earlier one."""
    if "AXPO_FAST_RUN" in os.environ:
        return FastRun(out=Path(os.environ["AXPO_FAST_RUN"]))
    out = tmp_path_factory.mktemp("fast") / "tiny_axpo"
    recipe(out)
    return FastRun(out=out)


MainPpo = Callable[..., Path]


@pytest.fixture
def main_ppo(fast_run: FastRun, tmp_path: Path) -> MainPpo:
    """`main_ppo(name, *overrides)`: one optimizer step of verl's own `main_ppo` from the SFT checkpoint; its folder."""

    def start(name: str, *overrides: str) -> Path:
        folder = tmp_path / name
        common = [
            f"data.train_files={fast_run.world}/train.parquet",
            f"data.val_files={fast_run.world}/val.parquet",
            f"actor_rollout_ref.model.path={fast_run.model}",
            f"actor_rollout_ref.rollout.multi_turn.tool_config_path={fast_run.world}/tools.yaml",
            f"trainer.default_local_dir={folder}/checkpoints",
            "trainer.total_training_steps=1",
            "trainer.save_freq=1",
            "actor_rollout_ref.actor.checkpoint.save_contents=[model]",
        ]
        run([sys.executable, "-m", "verl.trainer.main_ppo", *overrides, *common], folder / "run.log")
        return folder

    return start


def trained_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The trainer's own float32 weights after step 1; what verl saves for Hugging Face is rounded to bfloat16."""
    shard = folder / "checkpoints/global_step_1/actor/model_world_size_1_rank_0.pt"
    weights = torch.load(shard, map_location="cpu", weights_only=False)  # written by the run above
    return {name: getattr(weight, "_local_tensor", weight) for name, weight in weights.items()}
