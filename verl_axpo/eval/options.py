"""Numbers of the command line that may be left to the server: text -> number, or None for `none`.

`none` and not a number stands for "not sent": a presence penalty may be negative. 0 for `--top-k` and a negative
`--judge-temperature`, which are no values of these, mean the same.
"""

import typer

NONE = "none"


def number(text: str | float) -> float | None:
    """A number; None for `none`. A default comes as it is.

    Raises:
        typer.BadParameter: neither.
    """
    if text == NONE:
        return None
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"got {text!r}, expected a number, or {NONE}: not sent") from None


def count(text: str | int) -> int | None:
    """A number of things; None for `none` and for 0.

    Raises:
        typer.BadParameter: neither.
    """
    if text == NONE:
        return None
    try:
        return int(text) or None
    except ValueError:
        raise typer.BadParameter(f"got {text!r}, expected a whole number, or {NONE}: not sent") from None
