"""What a config names by path: a tool config and its classes, a reward function -> a line for each that is missing."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml


def tool_problems(path: str) -> Iterator[str]:
    """The tool config exists, has tools, and every class that it names can be imported."""
    file = _resolved(path)
    if not file.is_file():
        yield f"tools: {file} does not exist; name an existing tool config"
        return
    try:
        content = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        yield f"tools: {file} is no YAML: {error}"
        return
    tools = content.get("tools") if isinstance(content, dict) else None
    if not isinstance(tools, list) or not tools:
        yield f"tools: {file} has no list `tools:`; give it one, as in verl_axpo/tools/config/paper.yaml"
        return
    for tool in tools:
        name = str(tool.get("class_name")) if isinstance(tool, dict) else str(tool)
        if not _importable(name):
            yield f"tools: {file} names {name}, which cannot be imported; correct its class_name"


def _resolved(path: str) -> Path:
    """As verl finds it: in the current folder, or next to its own package."""
    from verl.utils.import_utils import resolve_config_path

    try:
        return Path(resolve_config_path(path))
    except FileNotFoundError:
        return Path(path)


def object_problems(key: str, named: Any) -> Iterator[str]:
    """A pair of path and name, as verl's configs have them, leads to something; nothing named is nothing to find."""
    from verl.utils.import_utils import load_extern_object

    path = str(named.path or "") if named is not None else ""
    if not path:
        return
    try:
        load_extern_object(path, str(named.name))
    except FileNotFoundError:
        yield f"{key}: {path} does not exist; name an existing file, or pkg://module"
    except (ImportError, AttributeError):
        yield f"{key}: {path} has no {named.name}; name a module, and what it has, that exist"
    except Exception as error:  # whatever a module of the user's raises while it is imported
        yield f"{key}: {path} cannot be loaded: {error.__cause__ or error}"


def _importable(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    try:
        return bool(module) and hasattr(importlib.import_module(module), attribute)
    except ImportError:
        return False
