"""Names of a run's own for what verl and vLLM name by the machine: weight sockets, shared memory. In every process.

verl calls a socket after Ray's job, and every local Ray calls its first job 01000000: two runs on a machine exchange
their weights, or wait for ever. In a run that `run.py` began, its sockets lie in the run's own folder, and each segment
of shared memory is noted there until it is unlinked.
"""

import functools
import os
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from types import ModuleType
from typing import Any

RUN_FOLDER = "VERL_AXPO_RUN_FOLDER"
SEGMENTS = "segments"  # its folder of notes: empty files that are called like a segment
SHARED_MEMORY = Path("/dev/shm")


def run_folder() -> Path | None:
    """The run's folder, where it is on this machine: other nodes of a cluster do not have the driver's."""
    folder = os.environ.get(RUN_FOLDER)
    return Path(folder) if folder and os.path.isdir(folder) else None


def own_socket(handle: str) -> str:
    """verl's `ipc://` handle, in the run's folder."""
    folder = run_folder()
    return f"ipc://{folder / handle.rpartition('/')[2]}" if folder and handle.startswith("ipc://") else handle


def own_weight_sockets(module: ModuleType) -> None:
    """Move both ends of verl's weight transfer.

    Patch, verl 0.9 (`vllm_rollout.bucketed_weight_transfer`): the name has the Ray job in it, which is no name among
    local Rays. tests/contract/test_run_names.py tells when it can go.
    """
    for end in (module.BucketedWeightSender, module.BucketedWeightReceiver):
        end.__init__ = _with_own_socket(end.__init__)


def _with_own_socket(original: Any) -> Any:
    @functools.wraps(original)
    def __init__(self: Any, zmq_handle: str, *args: Any, **kwargs: Any) -> None:
        original(self, own_socket(zmq_handle), *args, **kwargs)

    return __init__


def note_segments() -> None:
    """Note every segment of shared memory that this process makes, until it is unlinked; outside a run nothing.

    Patch, Python's `SharedMemory`: vLLM's engine is killed with Ray's workers, and with it the tracker that would
    unlink its segments of hundreds of megabytes. It can go when vLLM is shut down before Ray is.
    """
    if run_folder() is None or hasattr(SharedMemory, "is_noted"):
        return
    create_original, unlink_original = SharedMemory.__init__, SharedMemory.unlink

    @functools.wraps(create_original)
    def __init__(self: SharedMemory, name: str | None = None, create: bool = False, *args: Any, **kwargs: Any) -> None:
        create_original(self, name, create, *args, **kwargs)
        if create and (folder := run_folder()):
            (folder / SEGMENTS / self.name).touch()

    @functools.wraps(unlink_original)
    def unlink(self: SharedMemory) -> None:
        unlink_original(self)
        if folder := run_folder():
            (folder / SEGMENTS / self.name).unlink(missing_ok=True)

    for name, value in {"__init__": __init__, "unlink": unlink, "is_noted": True}.items():
        setattr(SharedMemory, name, value)
