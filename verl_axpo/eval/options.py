"""What the options of the command line name: text -> number, key, judge, tool config, module of benchmarks.

Numbers may be left to the server: `none`, not a number, stands for "not sent", as a presence penalty may be negative.
0 for `--top-k` and a negative `--judge-temperature`, which are no values of these, mean the same.
"""

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from verl_axpo.tools.configs import config_path

if TYPE_CHECKING:  # both import what takes seconds
    from verl_axpo.eval.settings import Registry
    from verl_axpo.rewards.judge import Judge

NONE = "none"
REGISTRY = "verl_axpo.eval.benchmarks"


def number(text: str | float) -> float | None:
    """A number; None for `none`. A default comes as it is.

    Raises:
        typer.BadParameter: neither.
    """
    if text == NONE:
        return None
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"got {text!r}, expected a number, or {NONE}: not sent") from None


def count(text: str | int) -> int | None:
    """A number of things; None for `none` and for 0.

    Raises:
        typer.BadParameter: neither.
    """
    if text == NONE:
        return None
    try:
        return int(text) or None
    except ValueError:
        raise typer.BadParameter(f"got {text!r}, expected a whole number, or {NONE}: not sent") from None


def tools_of(config: str | None, agent: bool) -> str | None:
    """The tool config of an agent, checked before gigabytes are read; None for one turn without tools.

    Raises:
        ValueError: an agent without a config, or one that is not there.
    """
    if not agent:
        return None
    if config is None:
        raise ValueError("eval run: got no --tools; name a tool config, or evaluate without tools by --no-agent")
    config_path(config)
    return config


def key_in(variable: str | None) -> str:
    """The server's key. Its variable is named, never guessed: a key must not reach a server that it was not meant for.

    Raises:
        ValueError: the variable is not set.
    """
    if variable is None:
        return "none"
    if not os.environ.get(variable):
        raise ValueError(f"key-env: the environment variable {variable} is not set, expected the server's key")
    return os.environ[variable]


def judge_of(model: str | None, url: str, key_env: str, temperature: float | None, out: Path) -> "Judge | None":
    """The reward's own judge, its verdicts kept beside the evaluation in `out`; None: rules alone.

    Args:
        model, url: as its server knows it, and where.
        key_env: the variable with its key; empty for none.
        temperature: None or below 0: not sent.
        out: the evaluation's folder.
    """
    if model is None:
        return None
    from verl_axpo.rewards.config import JudgeConfig
    from verl_axpo.rewards.judge import Judge

    return Judge(
        JudgeConfig(
            base_url=url,
            model=model,
            api_key_env=key_env or None,
            temperature=None if temperature is None or temperature < 0 else temperature,
            cache_dir=str(out / "judge"),
        )
    )


def registry_named(name: str) -> "Registry":
    """The module of benchmarks.

    Raises:
        ValueError: it cannot be imported, or is none.
    """
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"registry: got {name!r}, which cannot be imported: {error}") from error
    missing = [one for one in ("names", "get", "load", "score") if not hasattr(module, one)]
    if missing:
        raise ValueError(f"registry: {name} has no {missing}; expected what {REGISTRY} has")
    return cast("Registry", module)
