"""The one module that registers anything; verl imports it in every process (entry-point group `verl.plugins`).

    import verl -> this module -> estimator, trainer, agent loop and parser registered; `complete` in the config check

Each registration waits for verl's module that keeps the registry, so that a process without it pays nothing.
With `algorithm.adv_estimator=axpo` the plugin completes a GRPO config, refuses one that contradicts AXPO or names what
is not there, and watches over the run. A run of any other estimator gets its own sockets and temporary files, and
nothing else.
"""

import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import OmegaConf
from wrapt import register_post_import_hook

from verl_axpo.integration.names import note_segments, own_weight_sockets

# verl's module with a registry -> ours that registers there when it is imported
REGISTRATIONS = {
    "verl.trainer.ppo.core_algos": "verl_axpo.integration.estimator",
    "verl.trainer.ppo.v1": "verl_axpo.integration.trainer",
    "verl.experimental.agent_loop": "verl_axpo.integration.agent_loop",
}


def register() -> None:
    """Set everything up; safe to call again."""
    for registry, ours in REGISTRATIONS.items():
        register_post_import_hook(functools.partial(_import, ours), registry)
    register_post_import_hook(wrap_validate_config, "verl.utils.config")
    register_post_import_hook(wrap_runtime_env, "verl.trainer.constants_ppo")
    register_post_import_hook(own_weight_sockets, "verl.workers.rollout.vllm_rollout.bucketed_weight_transfer")
    register_post_import_hook(_watch_engines, "verl.workers.rollout.vllm_rollout.vllm_async_server")
    note_segments()
    # `${verl_axpo:tools/config/paper.yaml}` in a config: a file of the installed package, wherever that is
    package = Path(__file__).parents[1]
    OmegaConf.register_new_resolver("verl_axpo", lambda path: str(package / path), replace=True)


def _import(ours: str, _: ModuleType) -> None:
    importlib.import_module(ours)


def _watch_engines(server_module: ModuleType) -> None:
    from verl_axpo.integration.watch import watch_engines  # imports Ray

    watch_engines(server_module)


def wrap_runtime_env(constants_module: ModuleType) -> None:
    """Begin the run when verl asks for the environment of its processes, right before it starts Ray.

    Patch, verl 0.9: verl has no hook for plugins at the start of a run. tests/contract/test_verl_integration.py tells
    when it can go.
    """

    def begin_first(original: Any, config: Any = None) -> dict[str, Any]:
        from verl_axpo.integration.run import begin

        environment = begin(config)
        runtime_env: dict[str, Any] = original(config)
        runtime_env["env_vars"].update(environment)
        return runtime_env

    _wrap(constants_module, "get_ppo_ray_runtime_env", begin_first)


def wrap_validate_config(config_module: ModuleType) -> None:
    """Complete or refuse the config before verl's `validate_config`, which sees every config before anything starts.

    Patch, verl 0.9: verl has no hook for plugins that need to set keys. tests/contract/test_verl_integration.py tells
    when it can go.
    """

    def complete_first(original: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        from verl_axpo.integration.completion import complete

        complete(config)
        original(config, *args, **kwargs)

    _wrap(config_module, "validate_config", complete_first)


def _wrap(module: ModuleType, name: str, ours: Callable[..., Any]) -> None:
    """Put `ours(original, ...)` in place of a function, once; `__wrapped__` is the original."""
    original = getattr(module, name)
    if not hasattr(original, "wrapped_by_axpo"):
        wrapper = functools.wraps(original)(functools.partial(ours, original))
        wrapper.wrapped_by_axpo = True  # type: ignore[attr-defined]
        setattr(module, name, wrapper)


register()
