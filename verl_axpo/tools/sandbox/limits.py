"""The sandbox's settings: a tool's `config` mapping -> checks -> one frozen dataclass.

yaml -> SandboxConfig.from_mapping() -> pool (slots, time), worker (kernel limits), session (sizes it believes)
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, cast, get_args

Backend = Literal["auto", "bubblewrap", "sandlock", "unconfined_i_accept_the_risk"]
UNCONFINED = "unconfined_i_accept_the_risk"
CHOICE = "PYTHON_SANDBOX"  # environment variable: the backend where a configuration names none


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfig:
    """Settings of one pool of sandboxes; per trajectory unless said otherwise.

    Attributes:
        backend: `auto` takes bubblewrap, which must work here; `sandlock` needs no user namespaces, but leaves the disk
            and the number of threads unlimited and the names of files visible; `unconfined_i_accept_the_risk` runs a
            model's code as an ordinary process that can read and change whatever you can. Left out, it is the
            environment variable PYTHON_SANDBOX, else `auto`.
        timeout_s: wall seconds of a call that names none (paper: 12).
        max_timeout_s: what a call may ask for at most.
        memory_mb: address space on top of the pre-imported packages.
        cpu_s: processor seconds over the whole life of the interpreter.
        threads: threads beside the main one (the sandlock backend does not count them); the code may start no process.
        scratch_mb: size of the private scratch space, and of any file. The sandlock backend limits only single files.
        open_files: file descriptors.
        output_bytes: bytes of each of stdout, stderr, value and traceback that come back.
        images: images that come back from one call.
        image_pixels: pixels of such an image; a larger one is shrunk.
        input_pixels: pixels of a conversation image; a larger one is shrunk on its way in (default: 8K).
        max_sandboxes: per process: interpreters alive at once; further trajectories wait.
        max_running: per process: calls that run at once; further ones wait, and their time starts when they run.
            Default: the number of processors.
        start_timeout_s: per process: for the imports of the parent, and for starting one interpreter.
        queue_timeout_s: per process: how long a call waits for its turn before it is an infrastructure failure.

    Raises:
        ValueError: a value without meaning, or a default time-out above the maximum.
    """

    backend: Backend = field(default_factory=lambda: cast("Backend", os.environ.get(CHOICE, "auto")))
    timeout_s: float = 12.0
    max_timeout_s: float = 60.0
    memory_mb: int = 1024
    cpu_s: int = 300
    threads: int = 16
    scratch_mb: int = 256
    open_files: int = 64
    output_bytes: int = 8000
    images: int = 4
    image_pixels: int = 1024 * 1024
    input_pixels: int = 7680 * 4320
    max_sandboxes: int = 256
    max_running: int = 0
    start_timeout_s: float = 120.0
    queue_timeout_s: float = 600.0

    def __post_init__(self) -> None:
        if self.backend not in get_args(Backend):
            raise ValueError(f"python.backend: got {self.backend!r}; choose from {list(get_args(Backend))}")
        for setting in fields(self):
            if setting.type in (int, float):
                _check_number(setting.name, getattr(self, setting.name), whole=setting.type is int)
        if self.timeout_s > self.max_timeout_s:
            raise ValueError(
                f"python.timeout_s: got {self.timeout_s:g}, expected at most max_timeout_s = {self.max_timeout_s:g}"
            )

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "SandboxConfig":
        """Parse the `config` of the tool; keys left out take the defaults.

        Raises:
            ValueError: an unknown key, or what the constructor refuses.
        """
        valid = [setting.name for setting in fields(cls)]
        unknown = [str(key) for key in mapping if key not in valid]
        if unknown:
            raise ValueError(f"python: unknown keys {unknown}; valid keys are {valid}")
        return cls(**{str(key): value for key, value in mapping.items()})

    @property
    def running(self) -> int:
        """Calls that run at once."""
        return self.max_running or os.cpu_count() or 1

    @property
    def longest_call_s(self) -> float:
        """Seconds that a call may rightly take: a wait for a sandbox and one for its turn, start, images, the code
        itself, and the end of a sandbox that does not answer."""
        return 2 * self.queue_timeout_s + 2 * self.start_timeout_s + self.max_timeout_s + 60.0

    def of_a_worker(self) -> dict[str, int]:
        """What the process inside has to know."""
        names = ("memory_mb", "cpu_s", "threads", "scratch_mb", "open_files", "output_bytes", "images", "image_pixels")
        return {name: getattr(self, name) for name in names}


def _check_number(name: str, value: object, *, whole: bool) -> None:
    least = 0 if name in ("max_running", "images", "threads") else 1
    kinds, expected = ((int,), f"a whole number >= {least}") if whole else ((int, float), "a number of seconds > 0")
    fits = isinstance(value, kinds) and not isinstance(value, bool)
    if not fits or not (least <= value if whole else 0 < value < math.inf):  # type: ignore[operator]
        raise ValueError(f"python.{name}: got {value!r}, expected {expected}")
