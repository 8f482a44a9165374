"""What a line or a summary must look like: JSON -> its values, refused field by field before anything reads them."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

TOKEN_FIELDS = ("response_ids", "response_mask", "logprobs")  # nearly all of a line's bytes
# Evidence that the first traces do not have: left out of a file where it is None, and None where a file has none
OPTIONAL = ("turn_lengths", "tags")
_NUMBER, _NONE = (int, float), type(None)
RECORD_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("uid", "question", "text"), (str,)),
    **dict.fromkeys(("step", "session", "prompt_len", "num_turns"), (int,)),
    **dict.fromkeys(("source_session", "prefix_len", "recovery"), (int, _NONE)),
    **dict.fromkeys(("images", "tool_calls", *TOKEN_FIELDS), (list,)),
    **dict.fromkeys(("tool_call_span", "turn_lengths"), (list, _NONE)),
    **dict.fromkeys(("reward", "advantage", "started", "finished"), _NUMBER),
    **dict.fromkeys(("confidence", "entropy", "advantage_prefix"), (*_NUMBER, _NONE)),
    "selected": (bool,),
}
CALL_TYPES: dict[str, tuple[type, ...]] = {
    "name": (str,), "ok": (bool,), "infra": (bool,), "seconds": _NUMBER, "error": (str, _NONE)
}  # fmt: skip
SUMMARY_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("step", "rollouts_per_question", "budget"), (int,)),
    **dict.fromkeys(("questions", "candidates", "selected"), (list,)),
    **dict.fromkeys(("config", "metrics"), (dict,)),
    "normalize_std": (bool,),
    "num_records": (int, _NONE),
    "tags": (dict, _NONE),
}
CANDIDATE_TYPES: dict[str, tuple[type, ...]] = {"uid": (str,), "session": (int,), "score": _NUMBER}


def with_keys_of(cls: type[Any], values: Any, *more: str) -> dict[str, Any]:
    """`values`, refused unless it is an object with the fields of `cls` and `more`; optional fields may be missing."""
    expected = {field.name for field in fields(cls)} | set(more)
    got = set(values) if isinstance(values, dict) else {f"a {type(values).__name__} instead of an object"}
    missing = expected - got - set(OPTIONAL)
    if missing or got - expected:
        raise ValueError(f"{cls.__name__}: missing {sorted(missing)}, not known {sorted(got - expected)}")
    return dict.fromkeys(expected & set(OPTIONAL)) | dict(values)


def check_types(values: Mapping[str, Any], types: Mapping[str, tuple[type, ...]]) -> None:
    """JSON writes NaN and infinity as null, which no reward and no advantage may be."""
    for name, allowed in types.items():
        value = values[name]
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            expected = "a finite number" if allowed == _NUMBER else " or ".join(kind.__name__ for kind in allowed)
            raise ValueError(f"{name}: got {value!r:.80}, expected {expected}")


def check_elements(values: Mapping[str, Any], name: str, kind: type) -> None:
    for value in values[name] or ():
        if not isinstance(value, kind):
            raise ValueError(f"{name}: got {value!r:.80} in it, expected {kind.__name__} alone")
