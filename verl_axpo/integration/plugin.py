"""The one module that registers anything; verl imports it in every process (entry-point group `verl.plugins`).

    import verl -> this module -> estimator, trainer, agent loop and parser registered; `complete` in the config check

Each registration waits for verl's module that keeps the registry, so that a process without it pays nothing.
With `algorithm.adv_estimator=axpo` a GRPO config is completed where it is silent, and refused where it contradicts or
names what is not there; with any other estimator nothing happens.
"""

import functools
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import OmegaConf

from verl_axpo.lazy import when_imported

# verl's module with a registry -> ours that registers there when it is imported
REGISTRATIONS = {
    "verl.trainer.ppo.core_algos": "verl_axpo.integration.estimator",
    "verl.trainer.ppo.v1": "verl_axpo.integration.trainer",
    "verl.experimental.agent_loop": "verl_axpo.integration.agent_loop",
}


def register() -> None:
    """Set everything up; safe to call again."""
    for registry, ours in REGISTRATIONS.items():
        when_imported(registry, functools.partial(_import, ours))
    when_imported("verl.utils.config", wrap_validate_config)
    # `${verl_axpo:tools/config/paper.yaml}` in a config: a file of the installed package, wherever that is
    package = Path(__file__).parents[1]
    OmegaConf.register_new_resolver("verl_axpo", lambda path: str(package / path), replace=True)


def _import(ours: str, _: ModuleType) -> None:
    importlib.import_module(ours)


def wrap_validate_config(config_module: ModuleType) -> None:
    """Complete the config, or refuse it, before verl's `validate_config`, which sees every config before anything
    starts.

    Patch, verl 0.9: verl has no hook for plugins that need to set keys. tests/contract/test_verl_integration.py tells
    when it can go.
    """
    original = config_module.validate_config
    if getattr(original, "completes_axpo", False):
        return

    @functools.wraps(original)
    def validate_config(config: Any, *args: Any, **kwargs: Any) -> None:
        from verl_axpo.integration.completion import complete

        complete(config)
        original(config, *args, **kwargs)

    validate_config.completes_axpo = True  # type: ignore[attr-defined]
    config_module.validate_config = validate_config  # type: ignore[attr-defined]


register()
