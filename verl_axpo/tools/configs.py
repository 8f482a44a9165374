"""Tool configs: their files by name or path, what of one belongs to an experiment's settings, and checked settings.

    "paper" or a path -> config_path() -> YAML -> settings_of() -> class name -> its options, without keys and addresses
    a tool's `config` -> ToolConfig.parse() -> the same, checked

No tool is imported for it.
"""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from verl_axpo.tools import CONFIG_DIR

LIMIT_KEY = "call_limit_s"  # seconds after which the agent loop gives a call up
HOST_KEYS = ("type", LIMIT_KEY)  # verl's and the agent loop's, in the same mapping as a tool's own keys

# Where a service is and how it is paid for changes nothing about what the tool is; a key must not be written down
_UNSAID = {"run", "max_paid_calls", "requests_per_minute", "env", "headers"}
_PRIVATE = re.compile(
    r"(?:^|_)(?:api)?(?:key|token|secret|password|url|host|port|endpoint|path|dir)s?(?:_|$)", re.IGNORECASE
)
_SETTINGS = {"max_tokens"}  # no token of that kind


T = TypeVar("T", bound="ToolConfig")


class ToolConfig(BaseModel):
    """Base of a tool's settings. A subclass names its tool and declares its keys with their types and bounds.

    Raises:
        ValueError: unknown keys and bad values, all at once: what was got, and what to write.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    tool: ClassVar[str]  # how the policy calls it, for messages

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise ValueError("; ".join(self._told(problem) for problem in error.errors())) from None

    @classmethod
    def parse(cls: type[T], config: Mapping[str, Any]) -> T:
        """The `config` of the tool's YAML entry; keys that it leaves out take the defaults."""
        return cls(**{str(key): value for key, value in config.items() if key not in HOST_KEYS})

    @classmethod
    def _told(cls, problem: Mapping[str, Any]) -> str:
        key = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            return f"{cls.tool}: unknown key {key!r} in the tool's config; choose from {list(cls.model_fields)}"
        said = str(problem["msg"]).removeprefix("Value error, ")
        return f"{cls.tool}: {key}: got {problem['input']!r}: {said}" if key else f"{cls.tool}: {said}"


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
    """Class name -> options of each tool; what each is told to be, the manifest's hash of the prompt holds.

    Raises:
        ValueError: no such config, or a file without `tools`.
    """
    entries = entries_of(config)
    shared = Counter(str(entry["class_name"]) for entry in entries)
    return {_title(entry, shared): _public(entry.get("config") or {}) for entry in entries}


def entries_of(config: str | Path) -> list[dict[str, Any]]:
    """The entries of a config's `tools:`, as they stand in the file.

    Raises:
        ValueError: no such config, a file that is no YAML, or one without `tools`.
    """
    path = config_path(config)
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML: {error}") from None
    tools = content.get("tools") if isinstance(content, dict) else None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) and "class_name" in tool for tool in tools):
        raise ValueError(f"{path}: expected `tools:`, a list of class_name and config, as in {CONFIG_DIR}/paper.yaml")
    return tools


def _title(entry: Mapping[str, Any], shared: Mapping[str, int]) -> str:
    """The class; with the tool's name where several entries share it, as those of an MCP server do."""
    name = str(entry["class_name"])
    return name if shared[name] == 1 else f"{name}/{(entry.get('tool_schema') or {}).get('function', {}).get('name')}"


def _public(options: Mapping[str, Any]) -> dict[str, Any]:
    private = {name for name in options if name in _UNSAID or _PRIVATE.search(str(name))} - _SETTINGS
    return {str(name): value for name, value in options.items() if name not in private}
