"""An MCP server's tools -> entries of a tool config, each with the schema that the policy is shown.

    McpConfig -> McpSession.tools -> entry() -> YAML

verl's schemas know name, type, description and values of a parameter, and nothing inside it. What a server's schema
says beyond that is written into the description, for the policy to read; the server itself checks all of it.
"""

import json
from collections.abc import Mapping
from typing import Any

from mcp.types import Tool

from verl_axpo.tools.mcp.config import McpConfig
from verl_axpo.tools.mcp.session import McpSession

CLASS = "verl_axpo.tools.mcp.tool.McpTool"
_ANY = ["string", "number", "boolean", "array", "object", "null"]  # the types of JSON
_SAID = ("type", "description", "enum", "title", "default")  # keys of a parameter that need no further words
_NO_DEFAULT = object()


async def entries(config: McpConfig) -> list[dict[str, Any]]:
    """One entry for each tool of the server.

    Raises:
        InfraFailure: it cannot be reached.
    """
    session = McpSession(config)
    try:
        await session.open()
        return [entry(tool, config) for tool in session.tools.values()]
    finally:
        await session.close()


def entry(tool: Tool, config: McpConfig) -> dict[str, Any]:
    """The tool in verl's form; `config` as it was given."""
    options = {"type": "native", **config.model_dump(exclude_unset=True)}
    return {"class_name": CLASS, "config": options, "tool_schema": schema_of(tool)}


def schema_of(tool: Tool) -> dict[str, Any]:
    """The tool in OpenAI's function format, as far as verl keeps it."""
    schema = tool.input_schema
    definitions = schema.get("$defs") or schema.get("definitions") or {}
    properties = {name: _parameter(given, definitions) for name, given in (schema.get("properties") or {}).items()}
    parameters = {"type": "object", "properties": properties, "required": list(schema.get("required") or ())}
    description = " ".join((tool.description or tool.title or tool.name).split())
    return {"type": "function", "function": {"name": tool.name, "description": description, "parameters": parameters}}


def _parameter(given: Any, definitions: Mapping[str, Any]) -> dict[str, Any]:
    given = _resolved(given, definitions) if isinstance(given, Mapping) else {}
    types = _types(given, definitions)
    more = {key: value for key, value in given.items() if key not in _SAID}
    if set(more) == {"anyOf"} and all(set(_resolved(each, definitions)) <= {"type"} for each in more["anyOf"]):
        more = {}  # the types say it
    words = [str(given.get("description") or "")]
    if given.get("default", _NO_DEFAULT) not in (_NO_DEFAULT, None):
        words.append(f"Default: {json.dumps(given['default'], ensure_ascii=False)}.")
    if more:
        words.append(f"JSON schema: {json.dumps(_inlined(more, definitions), ensure_ascii=False)}")
    parameter: dict[str, Any] = {"type": types[0] if len(types) == 1 else types}
    if description := " ".join(filter(None, words)):
        parameter["description"] = description
    return parameter | ({"enum": list(given["enum"])} if "enum" in given else {})


def _types(given: Mapping[str, Any], definitions: Mapping[str, Any]) -> list[str]:
    """The JSON types that a parameter may have; all of them where its schema does not say."""
    if "type" in given:
        return [given["type"]] if isinstance(given["type"], str) else list(given["type"])
    if "enum" in given or "const" in given:
        values = given.get("enum", [given.get("const")])
        names = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
        return sorted({names.get(type(value), "null") for value in values})
    choices = [_resolved(each, definitions) for key in ("anyOf", "oneOf") for each in given.get(key) or ()]
    return list(dict.fromkeys(kind for each in choices for kind in _types(each, definitions))) or _ANY


def _resolved(given: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with the definition that its `$ref` names."""
    name = str(given.get("$ref", "")).rpartition("/")[2]
    rest = {key: value for key, value in given.items() if key != "$ref"}
    return {**definitions.get(name, {}), **rest} if name else dict(given)


def _inlined(value: Any, definitions: Mapping[str, Any], depth: int = 4) -> Any:
    """`value` with each `$ref` in it replaced, `depth` levels deep: a definition may name itself."""
    if isinstance(value, list):
        return [_inlined(each, definitions, depth) for each in value]
    if not isinstance(value, Mapping) or not depth:
        return value
    kept = {key: each for key, each in _resolved(value, definitions).items() if key != "title"}
    return {key: _inlined(each, definitions, depth - 1) for key, each in kept.items()}
