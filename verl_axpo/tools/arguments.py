"""What the policy wrote for a call, held to the tool's own JSON schema before the tool sees it.

    arguments, schema -> problem_with() -> None, or a sentence for the policy

A schema says which arguments there must be and of which type; what a value means, and whether it makes sense, is the
tool's own to say.
"""

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match

from verl_axpo.tools.text import quoted


def problem_with(arguments: Any, schema: Mapping[str, Any]) -> str | None:
    """The first thing in `arguments` that `schema` does not allow, and what to write instead.

    Args:
        arguments: a call's decoded `arguments`, of whatever type the policy wrote.
        schema: the function's `parameters`.

    An optional argument that is null counts as left out.

    Returns:
        None if they fit. Example: `"query is missing; write query (string), max_results (integer, optional)."`
    """
    if not isinstance(arguments, Mapping):
        return f"arguments must be a JSON object, got {type(arguments).__name__}; write {_usage(schema)}."
    required = schema.get("required") or ()
    given = {name: value for name, value in arguments.items() if value is not None or name in required}
    error = best_match(Draft202012Validator(dict(schema)).iter_errors(given))
    return None if error is None else f"{_what(error, arguments)}; write {_usage(schema)}."


def _what(error: ValidationError, arguments: Mapping[str, Any]) -> str:
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in arguments]
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    name = ".".join(map(str, error.path)) or "arguments"
    expected = {"type": "of type", "enum": "one of"}.get(str(error.validator), f"{error.validator}:")
    return f"{name} must be {expected} {error.validator_value}, got {quoted(error.instance)}"


def _usage(schema: Mapping[str, Any]) -> str:
    required = schema.get("required") or ()
    named = (
        f"{name} ({kind.get('type', 'any')}{'' if name in required else ', optional'})"
        for name, kind in (schema.get("properties") or {}).items()
    )
    return ", ".join(named) or "{}"
