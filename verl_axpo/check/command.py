"""A training command of verl and the config that it would train with: argv -> parse() -> Command -> compose().

The config is composed as verl's Hydra does it: with the same names, search path and overrides.
"""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import verl
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

Kind = Literal["rl", "sft"]
TRAINERS: dict[str, Kind] = {"verl.trainer.main_ppo": "rl", "verl.trainer.sft_trainer": "sft"}
CONFIG_NAMES: dict[Kind, str] = {"rl": "ppo_trainer", "sft": "sft_trainer_engine"}  # without --config-name
TRAINER_FOLDER = Path(verl.__file__).parent / "trainer"  # what Hydra takes a relative --config-path from
CLOSEST = 3  # keys named as what may have been meant


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A training command of verl: `kind`, the config that it composes and its folder, and its overrides."""

    kind: Kind
    config_path: str
    config_name: str
    overrides: tuple[str, ...]

    @property
    def keys(self) -> dict[str, str]:
        """What is overridden -> the override; a longer key has the shorter ones inside, so it comes first."""
        named = {override.split("=", 1)[0].lstrip("+~"): override for override in self.overrides}
        return dict(sorted(named.items(), key=lambda pair: -len(pair[0])))


def parse(argv: Sequence[str]) -> Command | None:
    """verl's trainer in a command line, with `python -m`, `torchrun -m` or anything before it; None: no trainer."""
    trainer = next((word for word in argv if word in TRAINERS), None)
    if trainer is None:
        return None
    kind, options = TRAINERS[trainer], ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--config-path", "-cp", default="config")
    options.add_argument("--config-name", "-cn", default=CONFIG_NAMES[kind])
    known, overrides = options.parse_known_args(argv[argv.index(trainer) + 1 :])
    return Command(kind=kind, overrides=tuple(overrides), **vars(known))


def compose(command: Command) -> DictConfig:
    """The config that the command would train with.

    Raises:
        ValueError: Hydra cannot compose it; the message has Hydra's words and the keys that may have been meant.
    """
    try:
        config = _composed(command, command.overrides)
        # completion.py tells a user's own words from defaults by Hydra's record of the command line
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        return config
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(f"{_first_lines(error)}\n{_advice(command, str(error))}") from None


def _composed(command: Command, overrides: Sequence[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(TRAINER_FOLDER / command.config_path), version_base=None):
        return hydra_compose(command.config_name, list(overrides), return_hydra_config=True)


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = str(error.__cause__).splitlines()[0] if error.__cause__ is not None else ""
    return " ".join([*lines[:2], *([cause] if cause and cause not in lines else [])])


def _advice(command: Command, message: str) -> str:
    """Which override is meant, and the keys of verl that look like it."""
    key = next((key for key in command.keys if key in message), None)
    if key is None:
        return "change the override that the message names"
    known = OmegaConf.to_container(_composed(command, ()), resolve=False, throw_on_missing=False)
    close = get_close_matches(key, dotted(known), n=CLOSEST, cutoff=0.6)
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"remove or correct {command.keys[key]!r}{meant} (a key that verl does not declare needs a leading +)"


def dotted(node: Any, prefix: str = "") -> dict[str, Any]:
    """A nested mapping as one of dotted keys; an empty mapping stays a value."""
    if not isinstance(node, dict) or not node:
        return {prefix.rstrip("."): node}
    return {key: value for name, below in node.items() for key, value in dotted(below, f"{prefix}{name}.").items()}
