"""Platform ``cpu``: what verl asks of a platform, and how verl chooses this one."""

import inspect
import re
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
import torch
import verl
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from verl.plugin.platform import PlatformBase, PlatformRegistry
from verl.utils.config import omega_conf_to_dataclass

from verl_axpo.platforms.cpu import CpuDevice, PlatformCPU, has_vllm_cpu

VERL = Path(verl.__file__).parent
# verl calls these on accelerator-only paths: NPU and Megatron code, CUDA streams of other checkpoint engines.
ACCELERATOR_ONLY = {"Event", "Stream", "stream", "current_stream"}
on_cpu_machine = pytest.mark.skipif(
    torch.cuda.is_available() or not has_vllm_cpu(), reason="not the CPU stack on a machine without a GPU"
)


def _python(code: str, cwd: Path, **env: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", code]
    run = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip().splitlines()[-1]


def test_answers_every_question_of_the_base_class() -> None:
    platform = PlatformCPU()  # raises when verl adds an abstract method
    for name, asked in inspect.getmembers(PlatformBase, inspect.isfunction):
        ours = getattr(PlatformCPU, name)
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(asked).parameters), name
    assert platform.device_name == "cpu"
    assert platform.communication_backend_name() == "gloo"
    assert torch.zeros(1).to(platform.current_device()).device.type == "cpu"


def test_device_module_has_every_call_that_verl_makes() -> None:
    source = "\n".join(path.read_text() for path in VERL.rglob("*.py") if not re.search("npu|megatron", str(path)))
    calls = set(re.findall(r"get_torch_device\(\)\.(\w+)", source)) - ACCELERATOR_ONLY
    device = CpuDevice()
    assert {"empty_cache", "memory_allocated", "set_device"} <= calls  # the expression above finds calls at all
    assert [call for call in sorted(calls) if not hasattr(device, call)] == []


def test_device_memory_is_this_process_and_this_machine() -> None:
    device = CpuDevice()
    available, total = device.mem_get_info()
    assert 0 < device.memory_allocated() <= device.max_memory_allocated() < total
    assert available < total


def test_device_rng_state_round_trip() -> None:
    device = CpuDevice()
    device.manual_seed(3)
    state = device.get_rng_state()
    drawn = torch.rand(4)
    device.set_rng_state(state)
    assert torch.equal(drawn, torch.rand(4))


def test_platform_loads_before_what_asks_for_it() -> None:
    # verl loads in this order, and importing verl's trainer resolves the platform for good
    ours = [point.name for point in entry_points(group="verl.plugins") if point.value.startswith("verl_axpo.")]
    assert ours == ["axpo_platform", "axpo_training"]


@on_cpu_machine
def test_import_verl_is_enough(tmp_path: Path) -> None:
    code = "import verl; from verl.plugin.platform import get_platform; print(get_platform().device_name)"
    assert _python(code, tmp_path) == "cpu"


@on_cpu_machine
def test_vllm_processes_are_told_by_vllm(tmp_path: Path) -> None:
    code = (
        "from vllm.plugins import load_general_plugins; load_general_plugins();"
        "from verl_axpo.platforms import patches; import vllm._custom_ops as ops;"
        "print(patches.installed(), ops._supports_onednn)"
    )
    assert _python(code, tmp_path) == "True False"


def test_vllm_on_another_platform_is_left_alone(tmp_path: Path) -> None:
    code = (
        "import types, vllm.platforms as platforms; platforms.current_platform = types.SimpleNamespace(is_cpu=bool);"
        "from verl_axpo.platforms import patches, vllm_plugin; vllm_plugin.register(); print(patches.installed())"
    )
    assert _python(code, tmp_path) == "False"  # bool() is False


def test_another_platform_leaves_everything_alone(tmp_path: Path) -> None:
    code = (
        "import torch; before = torch.distributed.init_process_group; import verl, verl.utils.distributed, sys;"
        "from verl_axpo.platforms import metadata, patches;"
        "print(patches.installed(), torch.distributed.init_process_group is before,"
        " any(isinstance(finder, metadata.VllmFinder) for finder in sys.meta_path))"
    )
    assert _python(code, tmp_path, VERL_PLATFORM="nvidia") == "False True False"


def test_detection_asks_registered_platforms_in_order() -> None:
    # a GPU answers first: ours was registered last
    names = PlatformRegistry.registered_names()
    assert names.index("nvidia") < names.index("cpu")


@on_cpu_machine
def test_vllm_cpu_answers_for_vllm() -> None:
    import verl.third_party.vllm as third_party

    assert version("vllm") == version("vllm-cpu") + "+cpu"
    assert third_party.vllm_version == version("vllm")


def _compose(config: str, *overrides: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose(config, overrides=list(overrides))


def _leaves(config: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(config, dict):
        return {prefix: config}
    return {key: leaf for name, value in config.items() for key, leaf in _leaves(value, f"{prefix}.{name}").items()}


# Keys that verl reads and its YAML files leave out, or dictionaries that are passed on as they are.
PASSED_ON = (
    ".actor_rollout_ref.actor.fsdp_config.mixed_precision",
    ".actor_rollout_ref.ref.fsdp_config.mixed_precision",
    ".actor_rollout_ref.rollout.enable_sleep_mode",
    ".actor_rollout_ref.rollout.engine_kwargs.vllm",
    ".actor_rollout_ref.model.override_config",
    ".engine.mixed_precision",
    ".model.override_config",
    ".ray_kwargs.ray_init",
)


@pytest.mark.parametrize(("config", "group"), [("ppo_trainer", "cpu"), ("sft_trainer_engine", "cpu_sft")])
def test_platform_files_name_keys_that_verl_has(config: str, group: str) -> None:
    plain = OmegaConf.to_container(_compose(config), resolve=False)
    path = Path(__file__).parents[2] / "verl_axpo/integration/config/platform" / f"{group}.yaml"
    ours = _leaves(OmegaConf.to_container(OmegaConf.load(path), resolve=False))
    unknown = [key for key in ours if key not in _leaves(plain) and not key.startswith(PASSED_ON)]
    assert unknown == []


def test_rollout_config_takes_the_keys_that_yaml_leaves_out() -> None:
    config = _compose("ppo_trainer", "+platform=cpu", "actor_rollout_ref.model.path=/nowhere")
    rollout = omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    assert rollout.enable_sleep_mode is False
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor.fsdp_config)
    assert actor.mixed_precision["param_dtype"] == "fp32"
    assert actor.strategy == "fsdp2"


def test_vllm_server_takes_the_platforms_environment() -> None:
    from verl.workers.rollout.vllm_rollout import vllm_async_server

    assert "rollout_env_vars()" in inspect.getsource(vllm_async_server)
    assert PlatformCPU().rollout_env_vars() == {"TORCH_COMPILE_DISABLE": "1"}


def test_torch_compile_can_be_switched_off_by_environment(tmp_path: Path) -> None:
    code = "import torch._dynamo.config as config; print(config.disable)"
    assert _python(code, tmp_path, TORCH_COMPILE_DISABLE="1") == "True"
