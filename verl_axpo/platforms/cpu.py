"""verl's view of a machine without an accelerator.

verl asks its platform for a device name, a ``torch.cuda``-like module, a collective backend and a Ray resource;
``PlatformCPU`` answers with ``cpu``, ``CpuDevice``, gloo and a logical ``GPU`` resource, and verl's unchanged FSDP2
and vLLM paths run on it.  ``plugin.py`` registers it; ``is_active`` decides whether the rest of this package acts.
"""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from types import ModuleType
from typing import Any

import psutil
import torch
from verl.plugin.platform import PlatformBase, get_platform

NAME = "cpu"
# getrusage counts ru_maxrss in KiB on Linux.
KIB = 1024


class CpuDevice(ModuleType):
    """``torch.cpu`` completed by the ``torch.cuda`` calls that verl makes.

    Memory is this process's resident memory in bytes, so that verl's memory metrics stay meaningful.
    """

    def __init__(self) -> None:
        super().__init__("verl_axpo.platforms.cpu.device")

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)

    # verl's CUDA-style calls pass device indices and keywords that mean nothing here.
    def empty_cache(self) -> None:
        """Nothing is cached by torch's CPU allocator."""

    def ipc_collect(self) -> None:
        """There are no device handles to collect."""

    def reset_peak_memory_stats(self, device: Any = None) -> None:
        """The kernel keeps the peak for the life of the process."""

    def set_per_process_memory_fraction(self, fraction: float, device: Any = None) -> None:
        """Main memory is not partitioned."""

    def memory_allocated(self, device: Any = None) -> int:
        """Resident bytes of this process."""
        return int(psutil.Process().memory_info().rss)

    def memory_reserved(self, device: Any = None) -> int:
        """As ``memory_allocated``: torch reserves nothing beyond it."""
        return self.memory_allocated()

    def max_memory_allocated(self, device: Any = None) -> int:
        """Peak resident bytes of this process."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB

    def max_memory_reserved(self, device: Any = None) -> int:
        """As ``max_memory_allocated``."""
        return self.max_memory_allocated()

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        """Available and total bytes of the machine."""
        memory = psutil.virtual_memory()
        return int(memory.available), int(memory.total)

    def get_device_name(self, device: Any = None) -> str:
        """The name that verl prints and looks up peak FLOPS by."""
        return NAME

    def manual_seed(self, seed: int) -> None:
        """Seed torch's generator."""
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        """Seed torch's generator: there is only one."""
        torch.manual_seed(seed)

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        """State of torch's generator, uint8."""
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        """Restore what ``get_rng_state`` returned."""
        torch.set_rng_state(state)


class PlatformCPU(PlatformBase):
    """verl platform ``cpu``: one logical device, gloo, weights through shared memory."""

    _device = CpuDevice()

    @property
    def device_name(self) -> str:
        return NAME

    @property
    def vendor_name(self) -> str:
        return NAME

    @property
    def device_module(self) -> ModuleType:
        return self._device

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        """Chosen by verl's detection when no accelerator answers first and vLLM's CPU build is what is installed.

        A login node of a GPU cluster has no accelerator either; there verl's own fallback must keep working.
        """
        return has_vllm_cpu()

    def current_device(self) -> int:
        # verl writes tensor.to(current_device()): an index would mean an accelerator to torch.
        return NAME  # type: ignore[return-value]

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        return None

    def synchronize(self, device_index: int | None = None) -> None:
        return None

    def manual_seed(self, seed: int) -> None:
        self._device.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        self._device.manual_seed_all(seed)

    def set_allocator_settings(self, settings: str) -> None:
        return None

    def empty_cache(self) -> None:
        return None

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"  # what Ray sets for its GPU resource

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None:
        return None

    def profiler_stop(self) -> None:
        return None

    def ray_resource_name(self) -> str:
        return "GPU"  # a logical one: ray.init(num_gpus=1), see integration/config/platform/cpu.yaml

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        return False

    def rollout_env_vars(self) -> dict[str, str]:
        """For vLLM's processes: the sampler's ``torch.compile`` ignores ``enforce_eager`` and needs a C++ compiler."""
        return {"TORCH_COMPILE_DISABLE": "1"}

    def cudart(self) -> None:
        return None


def has_vllm_cpu() -> bool:
    """Whether vLLM's CPU build, published as ``vllm-cpu``, is installed."""
    try:
        distribution("vllm-cpu")
    except PackageNotFoundError:
        return False
    return True


def is_active() -> bool:
    """Whether this process runs on the CPU platform.

    ``VERL_PLATFORM`` decides when set.  Otherwise verl's own detection does, and is only asked where vLLM's CPU build
    is installed: elsewhere we must not resolve verl's platform before other plugins have registered theirs.
    """
    chosen = os.environ.get("VERL_PLATFORM", "").strip().lower()
    if chosen:
        return chosen == NAME
    return has_vllm_cpu() and get_platform().device_name == NAME
