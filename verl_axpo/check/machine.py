"""Is all of it here? A composed config + this machine -> GPUs, flash-attn, memory, keys, judge, tools, Ray.

Everything is asked in seconds, and nothing is changed.
"""

import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from verl_axpo import doctor
from verl_axpo.findings import Finding, fine, problem

IDLE_GIB = 1.0  # a GPU that holds more than a driver's context is somebody's
QUERY = ("nvidia-smi", "--query-gpu=memory.total,memory.used", "--format=csv,noheader,nounits")
TIMEOUT_S = 30.0
IMAGE_MIB = 46.0  # 2,000,000 pixels as Qwen3-VL's processor returns them: 7,812 patches x 1,536 x 4 bytes
MIB = 1 << 20
SHM = Path("/dev/shm")  # Ray's object store and every weight update live there
LEAST_SHM_MIB = 1024.0


def check_program(argv: Sequence[str]) -> Finding:
    """The program of a command that is no training; `env` and assignments before it are skipped."""
    program = next((word for word in argv if word != "env" and "=" not in word), "")
    if shutil.which(program):
        return fine("command", program)
    return problem("command", f"{program or 'nothing'} is not found", "use the environment of recipes/setup_env.sh")


def check_machine(config: DictConfig, kind: str) -> Iterator[Finding]:
    """Everything that a training asks of the machine that it starts on."""
    yield from doctor.examine_environment()
    if OmegaConf.select(config, "trainer.device") != "cpu":
        yield from check_gpus(int(config.trainer.n_gpus_per_node), read_gpus())
        yield from check_attention(config)
    if kind == "rl":
        yield check_shm(config)
        yield from check_tools(OmegaConf.select(config, "actor_rollout_ref.rollout.multi_turn.tool_config_path"))
        yield from check_judge(OmegaConf.select(config, "reward.custom_reward_function.reward_kwargs.judge"))


def read_gpus() -> list[tuple[float, float]]:
    """(total, used) GiB of every GPU that nvidia-smi lists and CUDA_VISIBLE_DEVICES names; empty without one."""
    ids = os.environ.get("CUDA_VISIBLE_DEVICES")
    if ids in ("", "-1"):
        return []
    visible = [f"--id={ids}"] if ids else []
    try:
        done = subprocess.run([*QUERY, *visible], capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.split(",") for line in done.stdout.splitlines() if line.strip())
    return [(float(total) / 1024, float(used) / 1024) for total, used in rows]


def check_gpus(wanted: int, gpus: Sequence[tuple[float, float]]) -> Iterator[Finding]:
    """Enough GPUs, and free ones."""
    found = f"{len(gpus)} here, {wanted} wanted on this node"
    if len(gpus) < wanted:
        yield problem("GPUs", found, "set GPUS to what nvidia-smi lists, or use another machine; MODEL=tiny needs none")
        return
    busy = [number for number, (_, used) in enumerate(gpus[:wanted]) if used > IDLE_GIB]
    if busy:
        yield problem("GPUs", f"{busy} are in use by other processes", "end them (nvidia-smi names them) or use others")
    else:
        yield fine("GPUs", f"{found}, {min(total for total, _ in gpus[:wanted]):.0f} GiB each or more")


def check_attention(config: DictConfig) -> Iterator[Finding]:
    """flash-attn can be imported where a config asks for it; a folder of that name says nothing about its library."""
    keys = ("actor_rollout_ref.model.override_config.attn_implementation", "model.override_config.attn_implementation")
    if not any(OmegaConf.select(config, key) == "flash_attention_2" for key in keys):
        return
    library = [sys.executable, "-c", "import torch, flash_attn_2_cuda"]
    done = subprocess.run(library, capture_output=True, text=True, timeout=10 * TIMEOUT_S, check=False)
    if done.returncode == 0:
        yield fine("flash-attn", "its library loads")
    else:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        yield problem("flash-attn", last, "recipes/README.md, section FlashAttention, installs one that fits torch")


def check_shm(config: DictConfig) -> Finding:
    """Ray needs /dev/shm; what the images of a step take there is an estimate, and is told without being held to it."""
    free = shutil.disk_usage(SHM).free / MIB if SHM.is_dir() else 0.0
    rollouts = int(config.data.train_batch_size) * int(config.actor_rollout_ref.rollout.n)
    images = f"a large image in each of {rollouts:,} rollouts would take {rollouts * IMAGE_MIB / 1024:,.0f} GiB"
    if free < LEAST_SHM_MIB:
        return problem("shared memory", f"{free:,.0f} MiB free in {SHM}", "docker run --shm-size=64g, or remount it")
    return fine("shared memory", f"{free / 1024:,.0f} GiB free in {SHM}; {images} (never measured)")


def check_tools(path: Any) -> Iterator[Finding]:
    """Every tool of the run can be built here: a sandbox is found, a search can search."""
    if not path or not os.path.isfile(str(path)):
        return
    from verl_axpo.tools.described import load_tools  # imports verl's tools

    try:
        tools = load_tools(str(path))
    except Exception as error:  # whatever a tool's constructor raises is what a worker would have raised
        yield problem("tools", f"{path}: {error}", "change what the message names")
    else:
        yield fine("tools", ", ".join(tool.name for tool in tools))


def check_judge(judge: Any) -> Iterator[Finding]:
    """The judge's server answers, its key is set. The key's value is never shown."""
    if judge is None:
        return
    name = str(judge.get("api_key_env") or "")
    if name and not os.environ.get(name):
        yield problem("judge", f"{name} is not set", f"export {name}=...")
    url = str(judge.get("base_url"))
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/models", timeout=TIMEOUT_S):
            yield fine("judge", f"{url} answers")
    except urllib.error.HTTPError as error:  # an answer too; a missing key is told above
        yield fine("judge", f"{url} answers ({error.code})")
    except (OSError, ValueError) as error:
        yield problem("judge", f"{url}: {error}", "start it, or correct the URL (it ends in /v1)")
