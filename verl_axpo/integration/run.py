"""The start of a run, in its driver, before Ray: what it owns, where its temporary files go, what watches over it.

    config -> `begin` -> environment of every process of the run

Temporary files (sockets, locks, sandboxes) go to a folder of the run's own, and shared-memory segments are noted there,
so that two runs on a machine cannot meet and nothing stays when the run has ended.
"""

import atexit
import os
import shutil
import tempfile
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import ray
import ray._private.worker
from omegaconf import DictConfig, OmegaConf

from verl_axpo import lock
from verl_axpo.integration.completion import asks_for_axpo
from verl_axpo.integration.names import RUN_FOLDER, SEGMENTS, SHARED_MEMORY
from verl_axpo.integration.watch import Watch

PREFIX = "verl-axpo-run-"
OWNED = ("trainer.default_local_dir", "algorithm.axpo.trace_dir")  # folders that two runs must not write
SOCKET_BASE = 30  # characters: of a socket's 107, what our folder and verl's and vLLM's names leave
EXIT_S = 10.0  # for the processes of a run to follow Ray's; then they are killed
_environment: dict[str, str] = {}  # of the run that this process has begun


def begin(config: DictConfig | None) -> dict[str, str]:
    """Begin the run of this process, once; a run of another estimator gets its own names and nothing else.

    Returns:
        environment variables for all of its processes.

    Raises:
        FolderInUseError: another run writes into one of its folders.
    """
    if _environment or threading.current_thread() is not threading.main_thread():
        return _environment
    watched = config is not None and asks_for_axpo(config)
    for key in OWNED if watched else ():
        if owned := OmegaConf.select(config, key):
            lock.own(owned)
    remove_stale()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base()))
    (folder / SEGMENTS).mkdir()
    lock.own(folder)
    watch = Watch(force=partial(end, folder, patience=0))
    atexit.register(watch.say_cause)  # the last registered runs first: the watch rests, Ray ends, the cause is said
    atexit.register(end, folder)
    if watched:
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's own last line would take the place of the cause
        watch.start()
    _environment.update({RUN_FOLDER: str(folder), "TMPDIR": str(folder)})
    return _environment


def base() -> str:
    """Where the folders of runs lie: the usual place, or /tmp where that is too long for the name of a socket."""
    usual = tempfile.gettempdir()
    return usual if len(usual) <= SOCKET_BASE else "/tmp"


def end(folder: Path, patience: float = EXIT_S) -> None:
    """Stop Ray, wait for the processes of the run, and leave nothing of it.

    Args:
        patience: seconds until what is left is killed; 0 does not ask Ray to stop either.
    """
    processes = ray_processes()
    if patience:
        ray.shutdown()
    _, alive = psutil.wait_procs(processes, timeout=patience)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    remove(folder)


def ray_processes() -> list[psutil.Process]:
    """Ray's processes of this run and all that they started; none where Ray was there before the run."""
    node = ray._private.worker._global_node
    processes: list[psutil.Process] = []
    for _, popen in node.live_processes() if node is not None else ():
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(popen.pid)
            processes += [process, *process.children(recursive=True)]
    return processes


def remove(folder: Path) -> None:
    """Delete a run's temporary folder, and the shared memory that is noted in it."""
    for note in (folder / SEGMENTS).glob("*"):
        (SHARED_MEMORY / note.name).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def remove_stale() -> None:
    """Delete what runs left that were killed with SIGKILL: their folders have no owner any more."""
    for folder in Path(base()).glob(f"{PREFIX}*"):
        if lock.is_free(folder):
            remove(folder)
