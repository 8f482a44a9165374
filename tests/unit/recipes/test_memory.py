"""The memory estimate, one case worked out by hand: Qwen3-VL-8B on eight GPUs of 79 GiB."""

from dataclasses import replace

import pytest

from verl_axpo.preflight.memory import (
    GIB,
    Setting,
    checkpoint_gib,
    host_phase,
    kv_tokens,
    rollout_phase,
    update_phase,
)
from verl_axpo.preflight.shapes import PUBLISHED

EIGHT_B = PUBLISHED["Qwen/Qwen3-VL-8B-Thinking"]  # 8,767,123,696 parameters
PARAMETERS = 8_767_123_696
SETTING = Setting(gpus=8, tokens=32_768, image_tokens=8_000, fused_kernels=True, utilization=0.7)


def test_the_update_of_8b_on_eight_gpus_by_hand() -> None:
    assert EIGHT_B.parameters == PARAMETERS
    # a layer: 2 * 4096 * 32 * 128 + 2 * 4096 * 8 * 128 + 3 * 4096 * 12288 + 2 * 4096 + 2 * 128
    layer = 33_554_432 + 8_388_608 + 150_994_944 + 8_448
    embeddings = 2 * 151_936 * 4096
    expected = {
        # 4 (weights) + 4 (gradients) + 8 (moments) bytes, over 8 GPUs
        "weights, gradients and Adam's moments, fp32, sharded": 16 * PARAMETERS / 8,
        "gathered layers and embeddings, bf16, and their gradients": layer * (2 * 2 + 4) + embeddings * (2 + 4),
        # 36 layers' inputs, then one layer's inside and its gradient: 2 * 2 bytes * (8 * 4096 + 3 * 12288)
        "activations of 32,768 tokens": 32_768 * (4096 * 2 * 36 + 4 * 69_632),
        # 4 patches a token; 27 blocks' inputs, one inside: 2 * 2 bytes * (8 * 1152 + 2 * 4304)
        "vision activations of 8,000 image tokens": 32_000 * (1152 * 2 * 27 + 4 * 17_824),
        "logits": 512 * 151_936 * 6,
        "CUDA, NCCL, fragmentation": 4 * GIB,
        "vLLM, asleep": 2 * GIB,
    }
    phase = update_phase(EIGHT_B, SETTING)
    assert {term.name: term.gib for term in phase.terms} == pytest.approx(
        {name: size / GIB for name, size in expected.items()}
    )
    # 16.33 + 8.39 + 17.50 + 3.98 + 0.43 + 4 + 2
    assert phase.gib == pytest.approx(52.63, abs=0.01)


def test_the_rollout_of_8b_on_eight_gpus_by_hand() -> None:
    # 0.7 * 79 = 55.3; weights and moments stay: 12 bytes * 8.77e9 / 8 = 12.25 GiB; 4 for CUDA
    assert rollout_phase(EIGHT_B, SETTING, 79.0).gib == pytest.approx(55.3 + 12.25 + 4, abs=0.01)
    # (55.3 - 4) GiB less 2 bytes * 8.77e9 of weights, over 147,456 bytes a token
    assert kv_tokens(EIGHT_B, SETTING, 79.0) == int((51.3 * GIB - 2 * PARAMETERS) / 147_456) == 254_643


def test_what_is_offloaded_moves_to_the_host() -> None:
    offloaded = replace(SETTING, param_offload=True, optimizer_offload=True)
    assert rollout_phase(EIGHT_B, offloaded, 79.0).gib == pytest.approx(55.3 + 4)
    assert update_phase(EIGHT_B, offloaded).gib == update_phase(EIGHT_B, SETTING).gib  # it comes back to be updated
    assert host_phase(EIGHT_B, SETTING, reference=True).gib == pytest.approx(4 * PARAMETERS / GIB)
    assert host_phase(EIGHT_B, offloaded, reference=True).gib == pytest.approx(16 * PARAMETERS / GIB)
    policy = replace(SETTING, offload_policy=True)
    assert update_phase(EIGHT_B, policy).terms[0].gib == 0
    assert host_phase(EIGHT_B, policy, reference=False).gib == pytest.approx(16 * PARAMETERS / GIB)


def test_the_images_of_a_step_of_8b_by_hand() -> None:
    step = replace(SETTING, questions=256, rows=2560, row_image_tokens=1.5 * 1953, question_image_tokens=1953)
    image = 1953 * 4 * 1536 * 4  # 4 patches a token, 1,536 values a patch, 4 bytes a value: 45.8 MiB
    expected = {
        "reference model, fp32": 4 * PARAMETERS,
        # each row's own, one and a half images: in TransferQueue, and in the trainer's processes
        "images of 2,560 rows, in TransferQueue and in the trainer": 2 * 2560 * 1.5 * image,
        "images of 256 questions while their groups run": 256 * image,
    }
    phase = host_phase(EIGHT_B, step, reference=True)
    assert {term.name: term.gib for term in phase.terms} == pytest.approx(
        {name: size / GIB for name, size in expected.items()}
    )
    assert phase.gib == pytest.approx(32.7 + 343.3 + 11.4, abs=0.1)
    assert host_phase(EIGHT_B, replace(step, nodes=4), reference=True).gib == pytest.approx(phase.gib / 4)
    assert host_phase(EIGHT_B, SETTING, reference=False).terms == ()  # SFT on eight GPUs


def test_logits_without_the_fused_kernel_and_activations_without_checkpointing() -> None:
    plain = update_phase(EIGHT_B, replace(SETTING, fused_kernels=False, checkpointing=False))
    sizes = {term.name: term.gib for term in plain.terms}
    assert sizes["logits"] == pytest.approx(32_768 * 151_936 * 6 / GIB)
    assert sizes["activations of 32,768 tokens"] == pytest.approx(32_768 * 36 * (4096 * 2 + 4 * 69_632) / GIB)


@pytest.mark.parametrize(
    ("size", "parameters", "gib"),
    [("2B", 2_127_532_032, 31.7), ("4B", 4_437_815_808, 66.1), ("8B", PARAMETERS, 130.6)],
)
def test_a_checkpoint_on_disk_by_its_files(size: str, parameters: int, gib: float) -> None:
    shape = PUBLISHED[f"Qwen/Qwen3-VL-{size}-Thinking"]
    assert shape.parameters == parameters
    files = {
        "model_world_size_8_rank_*.pt": 4 * parameters,  # float32 shards
        "optim_world_size_8_rank_*.pt": 2 * 4 * parameters,  # Adam's two moments
        "huggingface/model-*.safetensors": 4 * parameters,  # the state dict as it is trained, float32 again
    }
    assert checkpoint_gib(shape) == pytest.approx(sum(files.values()) / 2**30)
    assert checkpoint_gib(shape) == pytest.approx(gib, abs=0.05)
