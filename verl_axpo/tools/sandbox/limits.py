"""The sandbox's settings, checked when the tool is made.

a tool's `config` -> SandboxConfig.parse() -> pool (places, time), worker (kernel limits), session (sizes it believes)
"""

import os
from typing import Annotated, ClassVar, Literal, cast

from pydantic import Field, model_validator

from verl_axpo.tools.configs import ToolConfig

Backend = Literal["auto", "bubblewrap", "sandlock", "unconfined_i_accept_the_risk"]
UNCONFINED = "unconfined_i_accept_the_risk"
CHOICE = "PYTHON_SANDBOX"  # environment variable: the backend where a configuration names none
_Positive = Annotated[int, Field(ge=1)]
_Count = Annotated[int, Field(ge=0)]
_Seconds = Annotated[float, Field(gt=0)]


class SandboxConfig(ToolConfig):
    """Settings of the sandboxes; per trajectory unless said otherwise.

    Attributes:
        backend: `auto` takes bubblewrap, which must work here; `sandlock` needs no user namespaces, but leaves the disk
            and the number of threads unlimited and the names of files visible; `unconfined_i_accept_the_risk` runs a
            model's code as an ordinary process that can read and change whatever you can. Left out, it is the
            environment variable PYTHON_SANDBOX, else `auto`.
        timeout_s: wall seconds of a call that names none (paper: 12).
        max_timeout_s: what a call may ask for at most.
        memory_mb: address space on top of the pre-imported packages.
        cpu_s: processor seconds over the whole life of the interpreter.
        threads: threads next to the main one (the sandlock backend does not count them); the code starts no process.
        scratch_mb: size of the private scratch space, and of any file. The sandlock backend limits only single files.
        open_files: file descriptors.
        output_bytes: bytes of each of stdout, stderr, value and traceback that come back.
        images: images that come back from one call.
        image_pixels: pixels of such an image; a larger one is shrunk.
        input_pixels: pixels of a conversation image; a larger one is shrunk on its way in (default: 8K).
        max_sandboxes: per node, whatever number of worker processes is on it: interpreters alive at once; further
            trajectories wait. Times `memory_mb` + `scratch_mb` it is the memory that all of them together can take.
        max_running: per node: calls that run at once; further ones wait, and their time starts when they run.
            Default: the number of processors.
        start_timeout_s: for the imports of the parent, and for starting one interpreter.
        queue_timeout_s: how long a call waits for its turn before it is an infrastructure failure.

    Raises:
        ValueError: an unknown key, a value without meaning, or a default time-out above the maximum.
    """

    tool: ClassVar[str] = "python"
    backend: Backend = Field(
        default_factory=lambda: cast("Backend", os.environ.get(CHOICE, "auto")), validate_default=True
    )
    timeout_s: _Seconds = 12.0
    max_timeout_s: _Seconds = 60.0
    memory_mb: _Positive = 1024
    cpu_s: _Positive = 300
    threads: _Count = 16
    scratch_mb: _Positive = 256
    open_files: _Positive = 64
    output_bytes: _Positive = 8000
    images: _Count = 4
    image_pixels: _Positive = 1024 * 1024
    input_pixels: _Positive = 7680 * 4320
    max_sandboxes: _Positive = 1024
    max_running: _Count = 0
    start_timeout_s: _Seconds = 120.0
    queue_timeout_s: _Seconds = 600.0

    @model_validator(mode="after")
    def _check_timeouts(self) -> "SandboxConfig":
        if self.timeout_s > self.max_timeout_s:
            raise ValueError(f"timeout_s = {self.timeout_s:g} is above max_timeout_s = {self.max_timeout_s:g}")
        return self

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
