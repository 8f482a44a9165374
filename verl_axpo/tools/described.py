"""Where a tool's name, schema and advice come from, for data, SFT, RL and evaluation alike.

    tool config -> described() -> [ToolPrompt] -> prompts: rows of data, rows for verl's validation
                -> load_tools() -> [BaseTool] -> prompt_of() -> the same, of tools that are to be called

The schema is the entry's `tool_schema`, else what the class says. The advice is the entry's `advice`, which verl reads
over, else the attribute `advice` of the tool. A `PolicyTool` says both without being made: writing rows needs no search
key. Any other `BaseTool` is made for it.
"""

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from verl.tools.base_tool import BaseTool
from verl.tools.schemas import OpenAIFunctionToolSchema
from verl.tools.tool_registry import initialize_tools_from_config

from verl_axpo.prompts import ToolPrompt
from verl_axpo.tools.configs import config_path, entries_of


def described(config: str | Path) -> list[ToolPrompt]:
    """What the policy is told of a config's tools, in its order.

    Args:
        config: a YAML file as verl's `rollout.multi_turn.tool_config_path`, or one of ours by its name.

    Raises:
        ValueError: no such config, or a tool that does not say its schema.
    """
    return [_described(entry) for entry in entries_of(config)]


def load_tools(config: str | Path) -> list[BaseTool]:
    """The tools of a config, made as verl makes them; an entry's `advice` is theirs.

    Raises:
        ValueError: no such config.
    """
    _see_current_folder()
    with contextlib.redirect_stdout(io.StringIO()):  # verl prints the schema of every tool that it makes
        tools: list[BaseTool] = initialize_tools_from_config(str(config_path(config)))
    for tool, entry in zip(tools, entries_of(config), strict=True):
        if entry.get("advice"):
            tool.advice = str(entry["advice"])
    return tools


def prompt_of(tool: BaseTool) -> ToolPrompt:
    """What the policy is told of a tool; the schema as verl's loop hands it to the chat template."""
    return ToolPrompt(schema=_dumped(tool.tool_schema), advice=getattr(tool, "advice", None))


def _described(entry: Mapping[str, Any]) -> ToolPrompt:
    name, config = str(entry["class_name"]), entry.get("config") or {}
    try:
        prompt = None if entry.get("tool_schema") and entry.get("advice") else _of_class(name, config, entry)
        schema = entry.get("tool_schema") or (prompt.schema if prompt else {})
        advice = entry.get("advice") or (prompt.advice if prompt else None)
        return ToolPrompt(schema=_dumped(OpenAIFunctionToolSchema.model_validate(schema)), advice=advice)
    except Exception as error:  # whatever a tool of one's own raises
        raise ValueError(
            f"tools: {name} does not say its schema: {error!r}; expected a class of an installed module or of the "
            "current folder, or a tool_schema in the config"
        ) from error


def _of_class(name: str, config: Mapping[str, Any], entry: Mapping[str, Any]) -> ToolPrompt | None:
    """What the class says: itself if it is a `PolicyTool`; with a `tool_schema` in the entry only the advice counts."""
    _see_current_folder()
    module, _, attribute = name.rpartition(".")
    kind = getattr(importlib.import_module(module), attribute)
    if hasattr(kind, "prompt_of"):
        prompt: ToolPrompt | None = kind.prompt_of(config)
        return prompt
    if entry.get("tool_schema"):
        return ToolPrompt(schema=entry["tool_schema"], advice=getattr(kind, "advice", None))
    with contextlib.redirect_stdout(io.StringIO()):
        return prompt_of(kind(config, None))


def _dumped(schema: OpenAIFunctionToolSchema) -> dict[str, Any]:
    dumped: dict[str, Any] = schema.model_dump(exclude_unset=True, exclude_none=True)
    return dumped


def _see_current_folder() -> None:
    """A console script does not have it, unlike `python -m`."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
