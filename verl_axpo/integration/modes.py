"""The modes of verl's V1 trainer (`trainer.v1.trainer_mode`), and the names of AXPO's trainers for them.

The user names verl's mode; the plugin puts ours in its place, and ours runs under verl's name again: everything in verl
looks up settings by that name, or compares it with `sync`.
"""

from omegaconf import DictConfig, OmegaConf

KEY = "trainer.v1.trainer_mode"
SYNC, COLOCATE_ASYNC, SEPARATE_ASYNC = MODES = ("sync", "colocate_async", "separate_async")
PREFIX = "axpo_"


def ours(mode: str) -> str:
    """AXPO's trainer for a mode of verl."""
    return PREFIX + mode


def host(mode: str) -> str:
    """verl's mode for the name of a trainer, verl's or ours."""
    return mode.removeprefix(PREFIX)


def is_asynchronous(config: DictConfig) -> bool:
    """Whether groups are trained before the others of their `generate_sequences` call have settled."""
    return host(OmegaConf.select(config, KEY) or SYNC) != SYNC
