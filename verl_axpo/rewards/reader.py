r"""Mathematical text as statements: "x = \frac{1}{2} cm" -> Item(name="x", form="", sides=({cm: 1/2},)).

    plain text -> tokens() -> Reader(tokens).statement() -> [Item], or Unreadable: no mathematics, or none that we know

Commands that are not listed here (integrals, sums, limits, vectors) are not read: such a text equals only itself.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from verl_axpo.rewards import algebra
from verl_axpo.rewards.algebra import Poly, Unfinished, dump, negative, number, symbol
from verl_axpo.rewards.tokens import ATOMS, FUNCTIONS, GREEK, Unreadable, source

MAX_DEPTH = 40  # factors inside factors
MAX_TOKENS = 300  # a longer text equals only itself
_RELATIONS = {"=": "=", "<": "<", ">": ">", "\\le": "\\le", "\\ge": "\\ge", "\\ne": "\\ne", "\\in": "\\in", "\\approx": "=",
              "\\equiv": "\\equiv", "\\to": "\\to", "\\Rightarrow": "\\Rightarrow", "\\sim": "\\sim"}  # fmt: skip
_FLIPPED = {">": "<", "\\ge": "\\le"}
_SEPARATORS = frozenset((",", ";", "\\\\", "\\or"))
_CLOSING = {"(": ")]", "[": ")]", "\\{": ("\\}",), "{": "}"}
_NAME = re.compile(
    r"(?:\\[a-zA-Z]+ )?\{? ?[A-Za-z]+ ?\}?(?: _ (?:\{[^}]*\}|\S+))?(?: ')*(?: \( [a-zA-Z] \))?|\\[a-z]+(?: _ \S+)?"
)
_NO_NAMES = frozenset(("no", "not", "\\pi", "e", "i"))
_INFINITY = symbol("\\infty")
_UNFINISHED = "?"  # marks what is kept as written


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
        return _UNFINISHED not in self.text()


class Reader:
    """Reads one list of tokens, once, from left to right."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens, self._at, self._depth = tokens, 0, 0

    def whole(self) -> list[Item]:
        """All of it.

        Raises:
            Unreadable: it is no statement that this module knows.
            TooLarge: a number in it is too large to be worked out.
        """
        if len(self._tokens) > MAX_TOKENS:
            raise Unreadable(f"{len(self._tokens)} tokens")
        items = self._statement()
        if self._at < len(self._tokens):
            raise Unreadable(self._next())
        return items

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1] if self._at <= len(self._tokens) else ""

    def _take(self, *wanted: str) -> str:
        return self._next() if self._peek() in wanted and self._peek() else ""

    def _statement(self) -> list[Item]:
        items = [self._item()]
        while self._take(*_SEPARATORS):
            items.append(self._item())
        return items

    def _item(self) -> Item:
        sides: list[tuple[str, Poly | None]] = []
        signs: list[str] = []
        begin = self._at
        sides.append(("", None) if self._peek() in _RELATIONS else ("", self._union()))
        sides[0] = (source(self._tokens[begin : self._at]), sides[0][1])
        while self._peek() in _RELATIONS:
            signs.append(_RELATIONS[self._next()])
            begin = self._at
            value = self._union()
            sides.append((source(self._tokens[begin : self._at]), value))
        return _related(sides, signs)

    def _union(self) -> Poly:
        parts = [self._sum()]
        while self._take("\\cup"):
            parts.append(self._sum())
        return parts[0] if len(parts) == 1 else symbol("\\cup".join(sorted(map(dump, parts))))

    def _sum(self) -> Poly:
        terms: list[tuple[str, Poly]] = []
        sign = self._take("-", "+") or "+"
        while True:
            begin = self._at
            term = self._product()
            terms.append((sign + source(self._tokens[begin : self._at]), negative(term) if sign == "-" else term))
            sign = self._take("-", "+")
            if not sign:
                return _finished(algebra.plus, terms)

    def _product(self) -> Poly:
        factors = [self._factor("*")]
        while True:
            sign = self._take("*", "/", "\\div")
            if not sign and not self._starts_factor():
                return _multiplied(factors)
            if not sign and self._peek()[0].isdigit():
                raise Unreadable("a number after a factor: " + self._peek())
            factors.append(self._factor(sign or "*"))

    def _starts_factor(self) -> bool:
        token = self._peek()
        return bool(token) and (
            token[0].isalnum() or token in ATOMS or token[0] == "@" or token in GREEK or token.startswith("\\begin")
        )

    def _factor(self, sign: str) -> "_Factor":
        begin = self._at
        minus = self._take("-")  # 3 * -2
        poly, is_root = self._scripted(*self._atom())
        return _Factor(sign, negative(poly) if minus else poly, source(self._tokens[begin : self._at]), is_root)

    def _scripted(self, poly: Poly, is_root: bool) -> tuple[Poly, bool]:
        """What stands below and above: a base or index, primes, a factorial, a power."""
        while mark := self._take("_", "'", "!", "^"):
            if mark == "_":
                poly = symbol(f"{dump(poly)}_{self._argument_text()}")
            elif mark != "^":
                poly = symbol(dump(poly) + mark)
            elif self._peek() == "\\prime" or self._tokens[self._at : self._at + 2] == ["{", "\\prime"]:
                poly = symbol(dump(poly) + "'" * self._argument_text().count("\\prime"))
            else:
                exponent = self._argument()
                poly = _defined(algebra.power, poly, exponent)
                is_root = is_root or any(value.denominator > 1 for value in exponent.values())
        return poly, is_root

    def _atom(self) -> tuple[Poly, bool]:
        """A value without scripts, and whether a root or a function made it."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Unreadable("nested too deep")
        atom = self._command() if self._peek().startswith("\\") else self._plain_atom()
        self._depth -= 1
        return atom

    def _command(self) -> tuple[Poly, bool]:
        if self._peek() in FUNCTIONS:
            return self._function(), True
        token = self._next()
        if token == "\\frac":
            above, below = self._argument(), self._argument()
            return self._fraction(above, below), False
        if token == "\\sqrt":
            index = self._group("]") if self._take("[") else number(Fraction(2))
            return _defined(algebra.power, self._argument(), _defined(algebra.over, number(Fraction(1)), index)), True
        if token in ("\\angle", "\\triangle"):
            return symbol(f"{token} {self._next()}"), False
        if token == "\\{":
            return self._bracket(token), False
        if token.startswith("\\begin"):
            return self._environment(token.removeprefix("\\begin")), False
        if token in GREEK:
            return symbol(token), False
        raise Unreadable(token)

    def _plain_atom(self) -> tuple[Poly, bool]:
        token = self._next()
        if token[:1].isdigit() or (token[:1] == "." and token != "."):
            return number(Fraction(token)), False
        if token == "|":
            return symbol(f"|{dump(self._group('|'))}|"), False
        if token in _CLOSING:
            return self._bracket(token), False
        if token.isalpha() or token[:1] == "@":
            return symbol(token), False
        raise Unreadable(token)

    def _fraction(self, above: Poly, below: Poly) -> Poly:
        try:
            return _defined(algebra.over, above, below)
        except Unfinished:
            return symbol(f"{_UNFINISHED}({dump(above)})/({dump(below)})")

    def _function(self) -> Poly:
        name, above, below = self._next(), "", ""
        for _ in range(2):
            if self._take("^"):
                above = "^" + self._argument_text()
            elif self._take("_"):
                below = "_" + self._argument_text()
        factors = [self._factor("*")]
        while self._starts_factor() and self._peek() not in FUNCTIONS and not self._peek()[0].isdigit():
            factors.append(self._factor("*"))
        return symbol(f"{name}{below}{above}[{dump(_multiplied(factors))}]")

    def _argument(self) -> Poly:
        r"""What a command or a sign applies to: a group, or one token, of a number after a command one digit."""
        if self._take("{"):
            return self._group("}")
        sign = self._take("-")
        before = self._tokens[self._at - 1]
        token = self._peek()
        if token.isdigit() and len(token) > 1 and before in ("\\frac", "\\sqrt"):
            self._tokens[self._at] = token[1:]
            return number(Fraction(token[0]))
        poly = self._atom()[0]
        return negative(poly) if sign else poly

    def _argument_text(self) -> str:
        begin = self._at
        if not self._take("{"):
            self._next()
            return source(self._tokens[begin : self._at])
        depth = 1
        while depth and self._peek():
            depth += {"{": 1, "}": -1}.get(self._next(), 0)
        return source(self._tokens[begin : self._at])

    def _group(self, closing: str) -> Poly:
        poly = self._sum()
        if not self._take(closing):
            raise Unreadable(f"no {closing}")
        return poly

    def _bracket(self, opening: str) -> Poly:
        """A group, or a tuple, interval, set: equal when brackets and items are; a set's order does not count."""
        if opening == "\\{" and self._take("\\}"):
            return symbol("{}")
        items = self._statement()
        closing = self._take(*_CLOSING[opening])
        if not closing:
            raise Unreadable(f"{opening} never closes")
        is_alone = len(items) == 1 and not items[0].form and items[0].name is None
        is_matrix = is_alone and dump(items[0].sides[0]).startswith(dump(symbol("matrix[")))
        if is_alone and ((opening in "({" and closing in ")}") or is_matrix):
            return items[0].sides[0]
        texts = [item.text() for item in items]
        if opening in ("\\{", "{"):
            return symbol("{" + ",".join(sorted(texts)) + "}")
        return symbol(opening + ",".join(texts) + closing)

    def _environment(self, name: str) -> Poly:
        rows, cells = [], []
        while True:
            cells.append(
                "" if self._peek() in ("&", "\\\\", "\\end") else ",".join(item.text() for item in self._cell())
            )
            mark = self._next()
            if mark in ("\\\\", "\\end"):
                rows.append("&".join(cells))
                cells = []
            if mark == "\\end":
                return symbol(f"{name}[{'|'.join(rows[:-1] if not rows[-1] else rows)}]")
            if mark not in ("\\\\", "&"):
                raise Unreadable(mark)

    def _cell(self) -> list[Item]:
        items = [self._item()]
        while self._take(",", ";", "\\or"):
            if self._peek() not in ("&", "\\\\", "\\end"):
                items.append(self._item())
        return items


@dataclass(frozen=True, slots=True)
class _Factor:
    """A factor with the sign before it and its text; a root may stand next to a number, a number may not."""

    sign: str
    poly: Poly
    text: str
    is_root: bool

    @property
    def is_number(self) -> bool:
        return not self.is_root and all(not monomial or abs(value) != 1 for monomial, value in self.poly.items())


def _multiplied(factors: list[_Factor]) -> Poly:
    total, seen_number = factors[0].poly, factors[0].is_number
    try:
        for factor in factors[1:]:
            if factor.sign == "\\div" or (factor.sign == "*" and seen_number and factor.is_number):
                raise Unfinished
            operation = algebra.over if factor.sign == "/" else algebra.times
            total = _defined(operation, total, factor.poly)
            seen_number = seen_number or factor.is_number
    except Unfinished:
        return symbol(_UNFINISHED + " ".join(sorted(factor.sign + factor.text for factor in factors)))
    return total


def _finished(operation: Callable[[list[Poly]], Poly], parts: list[tuple[str, Poly]]) -> Poly:
    try:
        return operation([poly for _, poly in parts])
    except Unfinished:
        return symbol(_UNFINISHED + " ".join(sorted(text for text, _ in parts)))


def _defined(operation: Callable[[Poly, Poly], Poly], left: Poly, right: Poly) -> Poly:
    try:
        return operation(left, right)
    except ZeroDivisionError:
        raise Unreadable("division by zero") from None


def _related(sides: list[tuple[str, Poly | None]], signs: list[str]) -> Item:
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


def _ranged(sides: list[tuple[str, Poly | None]], signs: list[str]) -> Item:
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
