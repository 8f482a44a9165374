"""Hydra finds this package by its place under `hydra_plugins` and adds our configuration folder to its search path.

So `--config-name axpo_trainer` and `+platform=cpu` work in verl's own `python -m verl.trainer.main_ppo`.
`hydra_plugins` itself has no `__init__.py`: it is a namespace that every Hydra plugin shares.
"""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class VerlAxpoSearchPath(SearchPathPlugin):
    """Appends `verl_axpo.integration.config`: on a name that both have, verl's file wins."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="verl-axpo", path="pkg://verl_axpo.integration.config")
