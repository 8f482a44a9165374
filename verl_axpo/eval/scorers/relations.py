r"""What a mathematical answer states: which values, and of what.

text -> an inequality -----------------------------> [], nothing to compare by value
     -> a separator between two signs: split there -> [["x ", " 5"], [" y ", " 2"]]    "x = 5, y = 2"
     -> a chain, one sign or none -----------------> [["x ", " y ", " 7"]]             "x = y = 7"

A statement is its members, the value last. A sign inside brackets, as in P(X = 1), belongs to its member's text; signs
that form no chain state nothing.
"""

import re
from itertools import accumulate

SIGN = re.compile(r"=|≈|\\(?:approx|simeq)(?![a-zA-Z])")
_INEQUALITY = re.compile(r"[<>≤≥≠]|!=|\\(?:[lg](?:eq?q?|eqslant|t)|neq?)(?![a-zA-Z])")
_SEPARATOR = re.compile(
    r"[;\n、]|,(?![^(\[{]*[)\]}])|\\\\|\\(?:q?quad|l?and|l?or|wedge|vee)(?![a-zA-Z])|\b(?:and|or)\b", re.IGNORECASE
)
# In the middle of a chain stands one expression: no "5 y" of "x = 5 y = 2", no arrow. Commands count as letters.
_ARITHMETIC = re.compile(r"\\(?:[dt]?frac|sqrt|cdot|times|div|pi|circ|sin|cos|tan|left|right)(?![a-zA-Z])")
_GAP = re.compile(r"[\w)\]}°%.]\s*[:&|]?\s+\\?[^\W\d_]")
_ARROW = re.compile(r"[→⇒⇔∴]|\\(?:[a-z]*arrow|implies|iff|to|therefore)(?![a-z])", re.IGNORECASE)
_ONE_IN_BRACES = re.compile(r"\{(\w)\}")
_INDEX_OR_ARGUMENT = re.compile(r"_(?:\{[^{}]*\}|\w)|(?<![a-z])[fghp]\([^()]*\)")
_UNKNOWN = re.compile(r"[xyz]")
_OPERATOR = re.compile(r"[-+*/^|\d]|\\(?:frac|sqrt)")


def _depths(text: str) -> list[int]:
    return list(accumulate((char in "([{") - (char in ")]}") for char in text))


def _shielded(text: str) -> str:
    """The text with a colon for each equals sign inside brackets, so that it is not split there."""
    return "".join(":" if char == "=" and depth > 0 else char for char, depth in zip(text, _depths(text), strict=True))


def _is_sound(members: list[str]) -> bool:
    """Whether every bracket closes in its own member, and what stands between two signs is one expression."""
    is_cut = any(sum(_depths(member)[-1:]) > 0 for member in members)
    is_chain = not any(_ARROW.search(member) or _GAP.search(_ARITHMETIC.sub("·", member)) for member in members[1:-1])
    return is_chain and not is_cut


def statements(text: str) -> list[list[str]]:
    """The statements of an undressed text, each as its members; none when a part of it states no value.

    Example: `statements("7") == [["7"]]`, `statements("x<=3") == []`
    """
    if _INEQUALITY.search(text):
        return []
    plain = _shielded(text)
    several = any(_SEPARATOR.search(member) for member in SIGN.split(plain)[1:-1])
    pieces = [piece for piece in _SEPARATOR.split(plain) if piece.strip()] if several else [plain]
    found = [SIGN.split(piece) for piece in pieces]
    return found if all(map(_is_sound, found)) else []


def named(left: str) -> str:
    """A tidied left side, with single characters out of their braces: `x^{2}` is `x^2`."""
    return _ONE_IN_BRACES.sub(r"\1", left)


def is_equation(left: str) -> bool:
    """Whether a tidied left side is one of an equation in x, y or z, which no value alone can stand for.

    Example: `is_equation("x^2+y^2")`, `not is_equation("x_1")`, `not is_equation("f(2)")`, `not is_equation("a+b")`
    """
    plain = _INDEX_OR_ARGUMENT.sub("", left)
    return bool(_UNKNOWN.search(plain) and _OPERATOR.search(plain))
