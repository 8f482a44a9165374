"""Is all of it here? Reports of the stages + this machine -> versions, GPUs, memory, disk, services.py, Ray.

Everything but Ray is asked in milliseconds; what a stage that has run needed is not asked again.
"""

import importlib
import importlib.util
import os
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
from omegaconf import OmegaConf

from verl_axpo import doctor
from verl_axpo.preflight import services
from verl_axpo.preflight.check import Report
from verl_axpo.preflight.leftovers import KEEP, leftovers_of
from verl_axpo.preflight.memory import GIB, NO_HOST
from verl_axpo.preflight.problems import Finding, fine, problem
from verl_axpo.preflight.rules import gpus_of
from verl_axpo.preflight.served import served_of
from verl_axpo.preflight.sizes import processes_of

IDLE_GIB = 1.0  # a GPU that holds more than a driver's context is somebody's
QUERY = ("nvidia-smi", "--query-gpu=memory.total,memory.used", "--format=csv,noheader,nounits")


def check_machine(reports: Sequence[Report], *, ray: bool = True) -> Iterator[Finding]:
    """Everything that the stages which have not run yet will ask of this machine.

    Args:
        reports: of all stages.
        ray: also start a small Ray (or reach the cluster of RAY_ADDRESS) and look inside a worker, some seconds.
    """
    ahead = [report for report in reports if not report.stage.done]
    trainings = [report for report in ahead if report.config is not None]
    yield from doctor.examine()
    yield from check_gpus(ahead, read_gpus())
    yield from check_attention(trainings)
    yield from check_host_memory(trainings, psutil.virtual_memory().total / GIB)
    yield from check_disk(ahead)
    stages = [report.stage for report in ahead]
    yield from services.check_environment(stages, os.environ)
    yield from services.check_servers(stages)
    yield from services.check_programs(stages)
    yield from services.check_tools_start(ahead)
    reinforcement = [report for report in trainings if report.stage.kind == "rl"]
    if ray and reinforcement:
        address = os.environ.get("RAY_ADDRESS", "")
        yield from doctor.check_ray_worker(address)
        if address:
            yield check_nodes(reinforcement, nodes_of(address))


def read_gpus() -> list[tuple[float, float]]:
    """(total, used) GiB of every GPU that nvidia-smi lists; empty without one."""
    try:
        done = subprocess.run(QUERY, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.split(",") for line in done.stdout.splitlines() if line.strip())
    return [(float(total) / 1024, float(used) / 1024) for total, used in rows]


def check_gpus(ahead: Sequence[Report], gpus: Sequence[tuple[float, float]]) -> Iterator[Finding]:
    """Enough GPUs for every training and served model, free ones, and as large as the estimate takes them to be."""
    needing = [report for report in ahead if report.stage.gpu_gib and gpus_of_node(report)]
    if not needing:
        return
    wanted = max(gpus_of_node(report) for report in needing)
    found = f"{len(gpus)} here, {wanted} wanted on this node"
    if len(gpus) < wanted:
        yield problem("GPUs", found, "set GPUS to what nvidia-smi lists, or use another machine; MODEL=tiny needs none")
        return
    yield fine("GPUs", found)
    yield from _check_gpu_memory(needing, gpus[:wanted])


def _check_gpu_memory(needing: Sequence[Report], gpus: Sequence[tuple[float, float]]) -> Iterator[Finding]:
    smallest = min(total for total, _ in gpus)
    estimate = max((phase.gib for report in needing for phase in report.phases), default=0.0)
    found = f"{smallest:.1f} GiB on the smallest GPU, the plan needs about {estimate:.1f}"
    if smallest < estimate:
        yield problem("GPU memory", found, f"start with GPU_GIB={smallest:.0f}: the plan then says what to lower")
    else:
        yield fine("GPU memory", found)
    busy = [number for number, (_, used) in enumerate(gpus) if used > IDLE_GIB]
    if busy:
        yield problem("GPUs", f"{busy} are in use by other processes", "end them (nvidia-smi names them) or use others")


def gpus_of_node(report: Report) -> int:
    """GPUs that a training, or a model that is served, takes on one node."""
    if report.config is None:
        served = served_of(report.stage)
        return served.gpus if served else 0
    if report.stage.kind == "sft":
        return processes_of(report.stage)
    return gpus_of(report.config) // int(report.config.trainer.nnodes)


def check_attention(trainings: Sequence[Report]) -> Iterator[Finding]:
    """flash-attn is installed where a config asks for it."""
    keys = ("actor_rollout_ref.model.override_config.attn_implementation", "model.override_config.attn_implementation")
    asked = any(OmegaConf.select(report.config, key) == "flash_attention_2" for report in trainings for key in keys)
    if not asked:
        return
    if importlib.util.find_spec("flash_attn") is None:
        fix = "source recipes/setup_env.sh && uv pip install --no-build-isolation flash-attn==2.8.3"
        yield problem("flash-attn", "not installed, and attn_implementation=flash_attention_2", fix)
    else:
        yield fine("flash-attn", "installed")


def check_host_memory(trainings: Sequence[Report], total_gib: float) -> Iterator[Finding]:
    """The host holds what is kept off the GPUs, and the images of a step."""
    largest = max((report.host for report in trainings), key=lambda host: host.gib, default=NO_HOST)
    found = f"{total_gib:.0f} GiB, the plan needs about {largest.gib:.0f}"
    if total_gib < largest.gib:
        term = max(largest.terms, key=lambda one: one.gib)
        lower = "lower BATCH, or use more nodes" if "images" in term.name else "use more GPUs and OFFLOAD=False"
        fix = f"use a machine with more memory, or {lower} (now: {term.name}, {term.gib:.0f} GiB)"
        yield problem("host memory", found, fix)
    else:
        yield fine("host memory", found)


def check_disk(ahead: Sequence[Report]) -> Iterator[Finding]:
    """Every disk that stages write to has room for all of them, beside what they have written already."""
    needed: dict[int, float] = defaultdict(float)
    folders: dict[int, Path] = {}
    for report in ahead:
        if not report.stage.makes:
            continue
        target = Path(report.stage.makes[0]).expanduser().absolute()
        folder = _existing(target)
        device = folder.stat().st_dev
        folders.setdefault(device, folder)
        needed[device] += _output_gib(report, target) + _checkpoints_gib(report)
    for device, folder in folders.items():
        free = shutil.disk_usage(folder).free / GIB
        found = f"{free:.0f} GiB free at {folder}, about {needed[device]:.0f} wanted"
        if free < needed[device]:
            yield problem("disk", found, "free some, or set OUT and DATA to folders on a larger disk")
        else:
            yield fine("disk", found)


def _output_gib(report: Report, target: Path) -> float:
    wanted = report.stage.disk_gib
    return max(0.0, wanted - _gib_of(target)) if wanted else 0.0


def _checkpoints_gib(report: Report) -> float:
    """New ones, beside the one that a training goes on from, in the room of those that are removed before it starts."""
    if not report.checkpoint_gib:
        return 0.0
    leftovers = leftovers_of(report.stage)
    return max(0.0, report.checkpoint_gib * checkpoints_at_once(report, leftovers.step) - leftovers.gib)


def _gib_of(path: Path) -> float:
    """What lies there; hard links count once."""
    files = (Path(folder, name).lstat() for folder, _, names in os.walk(path) for name in names)
    return sum({one.st_ino: one.st_size for one in files}.values()) / GIB


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def checkpoints_at_once(report: Report, step: int) -> int:
    """The most checkpoints that a training started at `step` has of its own: it deletes the oldest, then writes.

    Only a limit of one is different: then the old one goes when the new one is whole.
    """
    saves = _saves(report, step)
    for key in KEEP.values():
        kept = OmegaConf.select(report.config, key) if report.config is not None else None
        if kept:
            return min(saves, max(2, int(kept)))
    return saves


def _saves(report: Report, step: int) -> int:
    """How often a training saves behind `step`: every `save_freq` steps and at its end."""
    if report.config is None or report.sizes is None:
        return 0
    steps, every = report.sizes.steps, report.config.trainer.save_freq
    if every == "after_each_epoch":  # of supervised training alone
        every = report.sizes.rows // int(report.config.data.train_batch_size)
    if int(every) <= 0:  # verl's reinforcement learning then saves nothing, supervised training the end
        return int(report.stage.kind == "sft" and step < steps)
    return max(0, steps // int(every) - step // int(every) + (step < steps and steps % int(every) > 0))


def nodes_of(address: str) -> list[float]:
    """GPUs of every living node of a Ray cluster."""
    ray = importlib.import_module("ray")
    ray.init(address=address, log_to_driver=False, configure_logging=False)
    try:
        return [float(node["Resources"].get("GPU", 0)) for node in ray.nodes() if node["Alive"]]
    finally:
        ray.shutdown()


def check_nodes(reinforcement: Sequence[Report], nodes: Sequence[float]) -> Finding:
    """The cluster has the nodes that the config asks for."""
    gpus = max(gpus_of_node(report) for report in reinforcement)
    wanted = max(int(report.config.trainer.nnodes) for report in reinforcement if report.config is not None)
    able = sum(has >= gpus for has in nodes)
    found = f"{able} nodes with {gpus} GPUs, {wanted} wanted"
    if able < wanted:
        return problem("Ray cluster", found, "set NODES and GPUS to what `ray status` shows, or add nodes")
    return fine("Ray cluster", found)
