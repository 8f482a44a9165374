"""What options of the command line name: text -> number, JSON, key, judge, tool config.

A number may be left to the server: `none` stands for "not sent", as a presence penalty may be negative. 0 for `--top-k`
and a negative `--judge-temperature`, which are no values of these, mean the same.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from verl_axpo.tools.configs import config_path

if TYPE_CHECKING:  # imports what takes seconds
    from verl_axpo.rewards.judge import Judge

NONE = "none"
NumberT = TypeVar("NumberT", int, float)


def number(text: str | float) -> float | None:
    """A number; None for `none`. A default comes as it is.

    Raises:
        typer.BadParameter: neither.
    """
    return _parsed(text, float, "a number")


def count(text: str | int) -> int | None:
    """A number of things; None for `none` and for 0.

    Raises:
        typer.BadParameter: neither.
    """
    return _parsed(text, int, "a whole number") or None


def _parsed(text: str | float, kind: Callable[[str | float], NumberT], what: str) -> NumberT | None:
    if text == NONE:
        return None
    try:
        return kind(text)
    except ValueError:
        raise typer.BadParameter(f"got {text!r}, expected {what}, or {NONE}: not sent") from None


def template_kwargs(text: str | None) -> dict[str, Any]:
    """The chat template's kwargs, written as a JSON object; {} for None.

    Raises:
        typer.BadParameter: no JSON object.
    """
    try:
        kwargs = json.loads(text or "{}")
    except ValueError:
        kwargs = None
    if not isinstance(kwargs, dict):
        raise typer.BadParameter(f"got {text!r}, expected a JSON object such as '{{\"enable_thinking\": false}}'")
    return kwargs


def tools_of(config: str | None, agent: bool) -> str | None:
    """The tool config of an agent, checked before gigabytes are read; None for one turn without tools.

    Raises:
        ValueError: an agent without a config, or a config that is not there.
    """
    if not agent:
        return None
    if config is None:
        raise ValueError("eval run: --tools is missing; name a tool config, or evaluate without tools by --no-agent")
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
        raise ValueError(f"key-env: the environment variable {variable} is not set; put the server's key into it")
    return os.environ[variable]


def judge_of(model: str | None, url: str, key_env: str, temperature: float | None, out: Path) -> "Judge | None":
    """The reward's own judge, its verdicts kept in the evaluation's folder `out`; None: rules alone.

    Args:
        model, url: as its server knows it, and where.
        key_env: the variable with its key; empty for none.
        temperature: None or below 0: not sent.
    """
    if model is None:
        return None
    from verl_axpo.rewards.config import JudgeConfig
    from verl_axpo.rewards.judge import Judge

    sent = None if temperature is None or temperature < 0 else temperature
    cache = str(out / "judge")
    return Judge(JudgeConfig(base_url=url, model=model, api_key_env=key_env or None, temperature=sent, cache_dir=cache))
