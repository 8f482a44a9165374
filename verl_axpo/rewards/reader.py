r"""Mathematical text as statements: "x = \frac{1}{2} cm" -> Item(name="x", sides=({cm: 1/2},)).

    plain text -> tokens() -> Reader(tokens).statement() -> [Item], or Unreadable: no mathematics, or none that we know

Commands that are not listed here (integrals, sums, limits, vectors) are not read: such a text equals only itself.
"""

from fractions import Fraction

from verl_axpo.rewards import algebra
from verl_axpo.rewards.algebra import Poly, dump, negative, number, symbol
from verl_axpo.rewards.statements import Factor, Item, Side, defined, fraction, product, related, total
from verl_axpo.rewards.tokens import ATOMS, FUNCTIONS, GREEK, Unreadable, source

MAX_DEPTH = 40  # factors inside factors
MAX_TOKENS = 300  # a longer text equals only itself
_RELATIONS = ("=", "<", ">", "\\le", "\\ge", "\\ne", "\\in", "\\approx", "\\equiv", "\\to", "\\Rightarrow", "\\sim")
_APPLIED = tuple("fghFGHP")  # letters before a bracket that are functions, not factors
_SEPARATORS = frozenset((",", ";", "\\\\", "\\or", "\\and"))
_CLOSING = {"(": ")]", "[": ")]", "\\{": ("\\}",), "{": "}"}


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
        sides: list[Side] = [("", None) if self._peek() in _RELATIONS else self._side()]
        signs: list[str] = []
        while self._peek() in _RELATIONS:
            signs.append(self._next().replace("\\approx", "="))
            sides.append(self._side())
        return related(sides, signs)

    def _side(self) -> Side:
        begin, value = self._at, self._union()
        return source(self._tokens[begin : self._at]), value

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
                return total(terms)

    def _product(self) -> Poly:
        factors = [self._factor("*")]
        while True:
            sign = self._take("*", "/", "\\div")
            if not sign and not self._starts_factor():
                return product(factors)
            if not sign and self._peek()[0].isdigit():
                raise Unreadable("a number after a factor: " + self._peek())
            factors.append(self._factor(sign or "*"))

    def _starts_factor(self) -> bool:
        token = self._peek()
        return bool(token) and (
            token[0].isalnum() or token in ATOMS or token[0] == "@" or token in GREEK or token.startswith("\\begin")
        )

    def _factor(self, sign: str) -> Factor:
        begin = self._at
        minus = self._take("-")  # 3 * -2
        poly, is_root = self._scripted(*self._atom())
        if self._peek() == "(" and self._tokens[begin] in _APPLIED:
            poly, is_root = self._scripted(symbol(f"{dump(poly)}[{dump(self._atom()[0])}]"), True)
        return Factor(sign, negative(poly) if minus else poly, source(self._tokens[begin : self._at]), is_root)

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
                poly = defined(algebra.power, poly, exponent)
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
            return fraction(self._argument(), self._argument()), False
        if token == "\\sqrt":
            index = self._group("]") if self._take("[") else number(Fraction(2))
            return defined(algebra.power, self._argument(), defined(algebra.over, number(Fraction(1)), index)), True
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
        return symbol(f"{name}{below}{above}[{dump(product(factors))}]")

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
            return symbol("\\emptyset")
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
            cells.append(",".join(item.text() for item in self._cell()))
            mark = self._next()
            if mark in ("\\\\", "\\end"):
                rows.append("&".join(cells))
                cells = []
            if mark == "\\end":
                return symbol(f"{name}[{'|'.join(rows[:-1] if not rows[-1] else rows)}]")
            if mark not in ("\\\\", "&"):
                raise Unreadable(mark)

    def _cell(self) -> list[Item]:
        items: list[Item] = []
        while self._peek() not in ("&", "\\\\", "\\end", ""):
            items.append(self._item())
            if not self._take(",", ";", "\\or", "\\and"):
                break
        return items
