"""The one module that registers anything; verl imports it in every process (entry-point group `verl.plugins`).

    import verl -> this module -> estimator, trainer, agent loop and parser registered; `complete` in the config check

With `algorithm.adv_estimator=axpo` a GRPO config is completed where it is silent and refused where it contradicts; with
any other estimator nothing happens.
"""

# isort: off
from verl_axpo.platforms import plugin as _platform  # noqa: F401  first: verl's modules ask for their device on import

# isort: on
import functools
from pathlib import Path
from typing import Any

import verl.utils.config as verl_config
from omegaconf import OmegaConf

from verl_axpo.integration import agent_loop, estimator, trainer  # noqa: F401  (importing registers them)
from verl_axpo.integration.completion import complete


def _wrap_validate_config() -> None:
    """Complete the config in front of verl's `validate_config`, which sees every config before anything starts.

    Patch, verl 0.9: verl has no hook for plugins that need to set keys. See tests/contract/test_plugin.py for its end.
    """
    original = verl_config.validate_config
    if getattr(original, "completes_axpo", False):
        return

    @functools.wraps(original)
    def validate_config(config: Any, *args: Any, **kwargs: Any) -> None:
        complete(config)
        original(config, *args, **kwargs)

    validate_config.completes_axpo = True  # type: ignore[attr-defined]
    verl_config.validate_config = validate_config


# `${verl_axpo:tools/config/tiny.yaml}` in a config: a file of the installed package, wherever that is
OmegaConf.register_new_resolver("verl_axpo", lambda path: str(Path(__file__).parents[1] / path), replace=True)
_wrap_validate_config()
