"""The config that a training stage would run with: Stage -> Hydra, over verl's folder and ours -> DictConfig.

The same names and overrides as on the command line, without starting anything.
"""

from difflib import get_close_matches

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from verl_axpo.preflight.problems import Finding, problem
from verl_axpo.preflight.stages import Stage

HOST_CONFIGS = "verl.trainer.config"
CLOSEST = 3  # keys named as what may have been meant


def compose(stage: Stage) -> DictConfig | Finding:
    """The stage's config; what Hydra says, with the keys that may have been meant, when it cannot be composed."""
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module(HOST_CONFIGS, version_base=None):
            config = hydra_compose(stage.config_name, list(stage.overrides), return_hydra_config=True)
            # completion.py tells a user's own words from defaults by Hydra's record of the command line
            HydraConfig.instance().set_config(config)
            with open_dict(config):
                del config["hydra"]
            return config
    except (HydraException, OmegaConfBaseException) as error:
        return problem("config", _first_lines(error), _advice(stage, str(error)))


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = str(error.__cause__).splitlines()[0] if error.__cause__ is not None else ""
    return " ".join([*lines[:2], *([cause] if cause and cause not in lines else [])])


def _advice(stage: Stage, message: str) -> str:
    """Which override is meant, and the keys of verl that look like it."""
    named = [one for one in stage.overrides if one.split("=", 1)[0].lstrip("+~") in message]
    if not named:
        return "change the override that the message names"
    override = max(named, key=lambda one: len(one.split("=", 1)[0]))  # a longer key has the shorter ones inside
    key = override.split("=", 1)[0].lstrip("+~")
    close = get_close_matches(key, known_keys(stage), n=CLOSEST, cutoff=0.6)
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"remove or correct {override!r}{meant} (a key that verl does not declare is added with a leading +)"


def known_keys(stage: Stage) -> list[str]:
    """Every key of the stage's config without overrides, dotted; groups among them."""
    GlobalHydra.instance().clear()
    with initialize_config_module(HOST_CONFIGS, version_base=None):
        config = hydra_compose(stage.config_name)
    return list(_dotted(OmegaConf.to_container(config, resolve=False, throw_on_missing=False), ""))


def _dotted(node: object, prefix: str) -> list[str]:
    if not isinstance(node, dict):
        return []
    keys: list[str] = []
    for name, value in node.items():
        key = f"{prefix}{name}"
        keys += [key, *_dotted(value, f"{key}.")]
    return keys
