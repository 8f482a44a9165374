"""What the policy wrote -> a query that every engine takes, or a message that says what to write instead."""

from collections.abc import Mapping
from typing import Any

from verl_axpo.tools.text import quoted

MAX_QUERY_CHARS = 400  # Tavily refuses longer ones
MAX_RESULTS = 20  # Tavily's own limit
DEFAULT_RESULTS = 5  # the paper's


class SearchArgumentError(ValueError):
    """The call cannot be carried out; the text is written for the policy."""


def parse_arguments(parameters: Any) -> tuple[str, int]:
    """Check a call's arguments against the schema.

    Returns:
        the query, its white space collapsed, and the number of results.

    Raises:
        SearchArgumentError: names the argument, what came and what to write.
    """
    if not isinstance(parameters, Mapping):
        raise SearchArgumentError(f"arguments must be a JSON object, got {type(parameters).__name__}.")
    return _query(parameters), _max_results(parameters.get("max_results", DEFAULT_RESULTS))


def _query(parameters: Mapping[str, Any]) -> str:
    if "query" not in parameters:
        raise SearchArgumentError(
            f'query is missing, got the arguments {quoted(list(parameters))}; write {{"query": "a few words"}}.'
        )
    query = parameters["query"]
    if not isinstance(query, str):
        raise SearchArgumentError(f"query must be a string, got {quoted(query)}.")
    # JSON can spell lone surrogates and control characters, which neither UTF-8 nor SQLite takes
    printable = "".join(one if one.isprintable() else " " for one in query)
    words = " ".join(printable.split())
    if not any(one.isalnum() for one in words):
        raise SearchArgumentError(f"query must contain a word, got {quoted(query)}; write what you want to find.")
    if len(words) > MAX_QUERY_CHARS:
        raise SearchArgumentError(
            f"query has {len(words)} characters, at most {MAX_QUERY_CHARS} are allowed; keep the key words."
        )
    return words


def _max_results(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_RESULTS:
        raise SearchArgumentError(f"max_results must be a whole number from 1 to {MAX_RESULTS}, got {quoted(value)}.")
    return value
