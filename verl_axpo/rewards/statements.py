r"""What is read, put together: factors to products, terms to sums, sides to statements.

sides ("x", None), ("5", {...}), signs ["<"] -> related() -> Item; equal texts are equal statements
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from verl_axpo.rewards import algebra
from verl_axpo.rewards.algebra import Poly, Unfinished, dump, negative, symbol
from verl_axpo.rewards.tokens import Unreadable

UNFINISHED = "?"  # marks what is kept as written
Side = tuple[str, Poly | None]  # as written, and read; None where "< 5" has nothing in front

_FLIPPED = {">": "<", "\\ge": "\\le"}
_NAME = re.compile(
    r"\\angle \d+|"
    r"(?:\\[a-zA-Z]+ )?\{? ?[A-Za-z]+ ?\}?(?: _ (?:\{[^}]*\}|\S+))?(?: ')*(?: \( [a-zA-Z] \))?|\\[a-z]+(?: _ \S+)?"
)
_NO_NAMES = ("no", "not", "\\pi", "e", "i")
_INFINITY = symbol("\\infty")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One statement: a value, `name = value`, or a relation (`form` is its signs, `sides` what stands between them).

    Example: "x = 5" is `Item(name="x", form="", sides=({(): 5},))`, "x > 3" the value of the interval `(3, \\infty)`
    """

    sides: tuple[Poly, ...]
    name: str | None = None
    form: str = ""

    def text(self) -> str:
        """Equal texts are equal statements."""
        return f"{self.name or ''}:{self.form}:" + " ".join(map(dump, self.sides))

    @property
    def is_finished(self) -> bool:
        """Whether nothing in it is still to be worked out."""
        return UNFINISHED not in self.text()


def related(sides: Sequence[Side], signs: list[str]) -> Item:
    """A value, a named value, a range of one name, or any other relation, written from small to large."""
    if len(signs) > 1 or (signs and signs[0] in ("<", ">", "\\le", "\\ge")):
        return _ranged(sides, signs)
    values = [poly for _, poly in sides if poly is not None]
    if not signs:
        return Item(sides=tuple(values))
    if len(values) == 1:
        return Item(sides=tuple(values)) if signs == ["="] else Item(sides=tuple(values), form=signs[0])
    (left, _), (right, value) = sides
    is_place = signs == ["\\in"] and right.startswith(("(", "[", "\\{", "{"))
    if _is_name(left) and not _is_name(right) and value is not None and (signs == ["="] or is_place):
        return Item(sides=(value,), name=left)
    if signs[0] in ("=", "\\ne"):
        values.sort(key=dump)
    return Item(sides=tuple(values), form=signs[0])


def _ranged(sides: Sequence[Side], signs: list[str]) -> Item:
    if all(sign in _FLIPPED for sign in signs):
        sides, signs = sides[::-1], [_FLIPPED[sign] for sign in reversed(signs)]
    named = [at for at, (text, poly) in enumerate(sides) if poly is None or _is_name(text)]
    values = tuple(poly for _, poly in sides if poly is not None)
    if len(named) != 1 or not set(signs) <= {"<", "\\le"} or (len(sides) == 3 and named != [1]) or len(sides) > 3:
        return Item(sides=values, form=" ".join(signs))
    (at,) = named
    low = f"{'(' if signs[at - 1] == '<' else '['}{_end(sides[at - 1][1])}" if at else f"({_end(negative(_INFINITY))}"
    high = f"{_end(sides[at + 1][1])}{')' if signs[at] == '<' else ']'}" if at < len(signs) else f"{_end(_INFINITY)})"
    return Item(sides=(symbol(f"{low},{high}"),), name=sides[at][0] or None)


def _end(poly: Poly | None) -> str:
    assert poly is not None, "only the name may be left out"
    return Item(sides=(poly,)).text()


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and text not in _NO_NAMES


@dataclass(frozen=True, slots=True)
class Factor:
    """A factor with the sign before it and its text; a root may stand next to a number, a number may not."""

    sign: str
    poly: Poly
    text: str
    is_root: bool

    @property
    def is_number(self) -> bool:
        if self.is_root and list(self.poly) != [algebra.ONE]:  # the root of 16 is a number
            return False
        if len(self.poly) > 1 and not algebra.is_constant(self.poly):
            return False
        return all(not monomial or abs(value) != 1 for monomial, value in self.poly.items())


def product(factors: Sequence[Factor]) -> Poly:
    """The product of factors; as written where two numbers, or two powers of one base, stand in it, or a number is
    divided by two."""
    result, seen_number, divided = factors[0].poly, factors[0].is_number, False
    try:
        for factor in factors[1:]:
            if factor.sign == "\\div" or (factor.sign == "*" and seen_number and factor.is_number):
                raise Unfinished
            if factor.sign == "/" and divided and factor.is_number:
                raise Unfinished
            divided = divided or (factor.sign == "/" and factor.is_number)
            operation = algebra.over if factor.sign == "/" else algebra.times
            result = defined(operation, result, factor.poly)
            seen_number = seen_number or factor.is_number
    except Unfinished:
        return symbol(UNFINISHED + " ".join(sorted(factor.sign + factor.text for factor in factors)))
    return result


def total(terms: Sequence[tuple[str, Poly]]) -> Poly:
    """The sum of terms, each with its text."""
    try:
        return algebra.plus([poly for _, poly in terms])
    except Unfinished:
        return symbol(UNFINISHED + " ".join(sorted(text for text, _ in terms)))


def fraction(above: Poly, below: Poly) -> Poly:
    r"""What `\frac` makes of its two arguments."""
    try:
        return defined(algebra.over, above, below)
    except Unfinished:
        return symbol(f"{UNFINISHED}({dump(above)})/({dump(below)})")


def defined(operation: Callable[[Poly, Poly], Poly], left: Poly, right: Poly) -> Poly:
    """The operation, where it is defined.

    Raises:
        Unreadable: it divides by zero.
    """
    try:
        return operation(left, right)
    except ZeroDivisionError:
        raise Unreadable("division by zero") from None
