"""Tool configs by name or path, and what of one belongs to an experiment's settings; no tool is imported for it.

"paper" or a path -> config_path() -> YAML -> settings_of() -> class name -> its options, without keys and addresses
"""

import re
from pathlib import Path
from typing import Any

import yaml

from verl_axpo.tools import CONFIG_DIR

LIMIT_KEY = "call_limit_s"  # seconds after which the agent loop gives a call up
HOST_KEYS = ("type", LIMIT_KEY)  # verl's and the agent loop's, in the same mapping as a tool's own keys

# Where a service is and how it is paid for changes nothing about what the tool is; a key must not be written down
_BUDGET = {"run", "max_paid_calls", "requests_per_minute"}
_PRIVATE = re.compile(
    r"(?:^|_)(?:api)?(?:key|token|secret|password|url|host|port|endpoint|path|dir)s?(?:_|$)", re.IGNORECASE
)
_SETTINGS = {"max_tokens"}  # no token of that kind


def config_path(config: str | Path) -> Path:
    """A YAML file as `rollout.multi_turn.tool_config_path` names one, or one of ours by its name.

    Raises:
        ValueError: no such file, and none of ours has that name.
    """
    ours = {path.stem: path for path in sorted(CONFIG_DIR.glob("*.yaml"))}
    path = ours.get(str(config), Path(config))
    if not path.is_file():
        raise ValueError(f"tools: got {str(config)!r}, expected a YAML file or one of {list(ours)}")
    return path


def settings_of(config: str | Path) -> dict[str, dict[str, Any]]:
    """Class name -> options of each tool.

    Raises:
        ValueError: no such config, or a file without `tools`.
    """
    path = config_path(config)
    content = yaml.safe_load(path.read_text())
    tools = content.get("tools") if isinstance(content, dict) else None
    if not isinstance(tools, list) or not all(isinstance(one, dict) and "class_name" in one for one in tools):
        raise ValueError(f"{path}: expected `tools:`, a list of class_name and config, as in {CONFIG_DIR}/paper.yaml")
    return {str(one["class_name"]): _public(one.get("config") or {}) for one in tools}


def _public(options: dict[str, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in options.items() if name in _SETTINGS or not _hidden(str(name))}


def _hidden(name: str) -> bool:
    return name in _BUDGET or _PRIVATE.search(name) is not None
