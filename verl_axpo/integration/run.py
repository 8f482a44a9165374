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
from pathlib import Path

import psutil
import ray
from omegaconf import DictConfig, OmegaConf

from verl_axpo import lock
from verl_axpo.integration.names import RUN_FOLDER, SEGMENTS, SHARED_MEMORY
from verl_axpo.integration.watch import Watch

ESTIMATOR = "axpo"
PREFIX = "verl-axpo-run-"
OWNED = ("trainer.default_local_dir", "algorithm.axpo.trace_dir")  # folders that two runs must not write
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
    if config is not None and OmegaConf.select(config, "algorithm.adv_estimator") == ESTIMATOR:
        for folder in filter(None, (OmegaConf.select(config, key) for key in OWNED)):
            lock.own(folder)
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra's own last line would take the place of the cause
        Watch().start()
    remove_stale()
    folder = tempfile.mkdtemp(prefix=PREFIX)
    (Path(folder) / SEGMENTS).mkdir()
    lock.own(folder)
    atexit.register(end, Path(folder))
    _environment.update({RUN_FOLDER: folder, "TMPDIR": folder})
    return _environment


def end(folder: Path) -> None:
    """Stop Ray, wait for the processes of the run, and leave nothing of it."""
    processes = psutil.Process().children(recursive=True)
    ray.shutdown()
    _, alive = psutil.wait_procs(processes, timeout=EXIT_S)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    remove(folder)


def remove(folder: Path) -> None:
    """Delete a run's temporary folder, and the shared memory that is noted in it."""
    for note in (folder / SEGMENTS).glob("*"):
        (SHARED_MEMORY / note.name).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def remove_stale() -> None:
    """Delete what runs left that were killed with SIGKILL: their folders have no owner any more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if lock.is_free(folder):
            remove(folder)
