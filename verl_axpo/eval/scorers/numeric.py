r"""The value of a number or of a LaTeX expression, read and computed in one pass, in floats.

    text -> tokens -> expression -> terms -> factors -> powers -> value(), or None: not a number

Bounded whatever the text is: the time grows with its length, which has a limit as the depth of its brackets has, and
`9^{9^{9}}` overflows at once. math-verify's LaTeX parser takes seconds over a dozen brackets, and reads `2(3)` as 5.
"""

import math
import re
from collections.abc import Callable
from functools import lru_cache

MAX_CHARACTERS = 120  # longer text is no value
MAX_DEPTH = 20  # of brackets; no answer has so many
_MAX_FACTORIAL = 170  # 171! is past the largest float
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?\s*", re.IGNORECASE | re.ASCII)
# A whole number before a fraction of whole numbers is a mixed number: 1\frac{1}{2} is 3/2.
_MIXED = re.compile(r"(?<![\d.^_])(\d+)\s*(\\frac\s*(?:\{\d+\}|\d)\s*(?:\{\d+\}|\d))")
_SPELLINGS: tuple[tuple[str, str], ...] = (
    (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
    (r"\^\s*\{?\s*\\circ\s*\}?", "°"),
    (r"\\(?:left|right)(?![a-zA-Z])", ""),
    (r"\\(?:times|cdot)(?![a-zA-Z])|[\u00d7·]", "*"),
    (r"\\div(?![a-zA-Z])|[÷:]", "/"),
    (r"(?:\\|(?<![a-zA-Z\\]))pi(?![a-zA-Z])", "π"),
    (r"[\u2212\u2013]", "-"),  # Unicode's minus, and the dash that looks like it
)
_TOKEN = re.compile(
    r"\s*(\\[a-z]+|\d{1,3}(?:(?:,|\{,\})\d{3})+(?:\.\d+)?(?![\d,])|\d+\.?\d*|\.\d+|[-+*/^!°_|π()\[\]{}])\s*", re.ASCII
)
_CLOSING = {"(": ")", "[": "]", "{": "}", "|": "|"}
_TRIGONOMETRIC = {name: getattr(math, name) for name in ("sin", "cos", "tan")}
_FUNCTIONS: dict[str, Callable[[float], float]] = {
    **_TRIGONOMETRIC,
    **{f"arc{name}": getattr(math, f"a{name}") for name in _TRIGONOMETRIC},
    **{"exp": math.exp, "ln": math.log, "log": math.log10, "lg": math.log10},
}


def is_number(text: str) -> bool:
    """Whether the text is a plain number, not an expression."""
    return _NUMBER.fullmatch(text) is not None and math.isfinite(float(text))


def _factorial(number: float) -> float:
    return float(math.factorial(int(number))) if number == int(number) and number <= _MAX_FACTORIAL else math.inf


class _Reader:
    """Reads tokens from the left, one method for each level of precedence. ValueError: not an expression."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0  # of the brackets that are open
        self._bars = 0  # absolute values that are open: the next bar closes one
        self._degree = 1.0  # what a degree sign multiplies by; in a sine it is the radians of a degree

    def whole(self) -> float:
        """The value of all tokens."""
        result = self._sum()
        if self._at < len(self._tokens):
            raise ValueError(f"{self._tokens[self._at]!r} after the end")
        return result

    def _next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, *wanted: str) -> str:
        """The next token if it is one of `wanted` (of any, without), else an empty text."""
        token = self._next()
        if wanted and token not in wanted:
            return ""
        self._at += 1
        return token

    def _sum(self) -> float:
        total = self._product()
        while sign := self._take("+", "-"):
            total += self._product() if sign == "+" else -self._product()
        return total

    def _product(self) -> float:
        product = self._signed()
        while True:
            before = self._tokens[self._at - 1]
            if operator := self._take("*", "/"):
                factor = self._signed()
                product = product * factor if operator == "*" else product / factor
            elif self._opens() and not (before[-1].isdigit() and self._next()[0] in "0123456789."):
                product *= self._power()  # side by side, but not two numbers
            else:
                return product

    def _opens(self) -> bool:
        """Whether the next token begins a factor."""
        token = self._next()
        return token[:1].isdigit() or token[:1] in ("\\", ".", "π", "(", "[", "{") or (token == "|" and not self._bars)

    def _signed(self) -> float:
        sign = 1.0
        while found := self._take("+", "-"):
            sign = -sign if found == "-" else sign
        return sign * self._power()

    def _power(self) -> float:
        base = self._suffixed()
        while self._take("^"):
            base = math.pow(base, self._signed_atom())
        return base

    def _signed_atom(self) -> float:
        return -self._atom() if self._take("-") else self._atom()

    def _suffixed(self) -> float:
        number = self._atom()
        while suffix := self._take("!", "°"):
            number = _factorial(number) if suffix == "!" else number * self._degree
        return number

    def _atom(self) -> float:
        token = self._take()
        if token[:1].isdigit() or token[:1] == ".":
            return float(token.replace(",", "").replace("{}", ""))
        if token == "π":
            return math.pi
        if token in _CLOSING:
            return self._group(token)
        if token == "\\frac":
            return self._argument() / self._argument()
        if token == "\\sqrt":
            return self._root()
        return self._function(token[1:])

    def _group(self, opening: str) -> float:
        self._bars, outside = (self._bars + 1 if opening == "|" else 0), self._bars
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} brackets in each other")
        inside = self._sum()
        self._depth, self._bars = self._depth - 1, outside
        if not self._take(_CLOSING[opening]):
            raise ValueError(f"{opening} never closes")
        return abs(inside) if opening == "|" else inside

    def _argument(self) -> float:
        """The argument of a command: braces, or one digit."""
        token = self._next()
        if token.isdigit() and len(token) > 1:  # \frac12
            self._tokens[self._at : self._at + 1] = list(token)
        return self._atom()

    def _root(self) -> float:
        degree = self._group("[") if self._take("[") else 2.0
        return math.pow(self._atom(), 1.0 / degree)

    def _function(self, name: str) -> float:
        function = _FUNCTIONS.get(name)
        if function is None:
            raise ValueError(f"no function {name!r}")
        base = self._argument() if name == "log" and self._take("_") else None
        power = self._signed_atom() if self._take("^") else 1.0
        self._degree, outside = (math.pi / 180.0 if name in _TRIGONOMETRIC else 1.0), self._degree
        argument = self._power() if self._next() in _CLOSING else self._product()
        self._degree = outside
        return math.pow(function(argument) if base is None else math.log(argument, base), power)


def _tokens(text: str) -> list[str]:
    """The tokens of a text that has nothing else.

    Raises:
        ValueError: a letter, or any other sign that is no arithmetic.
    """
    for pattern, plain in _SPELLINGS:
        text = re.sub(pattern, plain, text)
    text = _MIXED.sub(r"(\1+\2)", text)
    tokens = _TOKEN.findall(text)
    if sum(match.end() - match.start() for match in _TOKEN.finditer(text)) != len(text):
        raise ValueError("not arithmetic")
    return tokens


@lru_cache(maxsize=4096)
def value(text: str) -> float | None:
    r"""The real value of a number or a LaTeX expression; None when it has none.

    Example: `value(r"\frac{3}{2}") == 1.5`, `value("2x") is None`
    """
    if not 0 < len(text) <= MAX_CHARACTERS:
        return None
    try:
        result = float(text) if is_number(text) else _Reader(_tokens(text)).whole()
    except (ValueError, OverflowError, ZeroDivisionError):
        return None
    return result if math.isfinite(result) else None
