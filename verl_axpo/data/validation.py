"""What is wrong with a row, in a line each: pydantic's errors in the words of our messages.

ValidationError -> reasons() -> "answer: got None, expected a valid string"
type            -> parser()  -> what makes a value of it from a line of JSON, or raises ValueError with the reasons
"""

from collections.abc import Callable
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")

SHOWN_CHARACTERS = 80  # of a wrong value; enough to recognise it, short enough for a list


def shown(value: object) -> str:
    """A value as it appears in a message."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


def parser(kind: type[T]) -> Callable[[bytes], T]:
    """For `verl_axpo.files.read_lines`: a line as a dataclass or model; raises ValueError with what is wrong."""
    adapter = TypeAdapter(kind)

    def parse(line: bytes) -> T:
        try:
            return adapter.validate_json(line)
        except ValidationError as error:
            raise ValueError(reasons(error)) from None

    return parse


def reasons(error: ValidationError) -> str:
    """All complaints of one row, joined by "; "."""
    told = []
    for complaint in error.errors():
        name = ".".join(str(part) for part in complaint["loc"]) or "row"
        if complaint["type"] == "missing":
            told.append(f"{name}: missing")
        elif complaint["type"] == "json_invalid":
            told.append(f"is no JSON ({complaint['ctx']['error']})")
        else:
            told.append(f"{name}: got {shown(complaint['input'])}, expected: {complaint['msg']}")
    return "; ".join(told)
