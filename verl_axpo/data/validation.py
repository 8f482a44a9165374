"""What is wrong with a row, in one line each: pydantic's errors in the words of our messages.

ValidationError -> reasons() -> "answer: got None, expected a valid string"
"""

from pydantic import ValidationError

SHOWN_CHARACTERS = 80  # of a wrong value; enough to recognise it, short enough for a list


def shown(value: object) -> str:
    """A value as it appears in a message."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


def reasons(error: ValidationError) -> str:
    """All complaints of one row, joined by "; "."""
    told = []
    for one in error.errors():
        name = ".".join(str(part) for part in one["loc"]) or "row"
        if one["type"] == "missing":
            told.append(f"{name}: missing")
        else:
            told.append(f"{name}: got {shown(one['input'])}, expected: {one['msg']}")
    return "; ".join(told)
