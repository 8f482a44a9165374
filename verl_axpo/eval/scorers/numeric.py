"""The value of a number or of a LaTeX expression.

    text -> arithmetic only? -> parse (latex2sympy2_extended) -> tree -> floats -> value(), or None: not a number

No time-out is needed, and any thread may call this (math-verify's time-outs want the main thread): only short
arithmetic is parsed, since the parser computes binomials itself and takes long over deep brackets, and the tree is
evaluated in floats, where `9^{9^{9}}` overflows at once.
"""

import math
import re
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate
from typing import Any

MAX_CHARACTERS = 120  # longer text is no value
MAX_DEPTH = 12  # of brackets; the parser's time grows with the square and more of it
MAX_BARS = 4  # two absolute values; which bar closes which is searched for
_MAX_FACTORIAL = 170  # 171! is past the largest float
_FUNCTIONS: dict[str, Callable[..., float]] = {
    **{name: getattr(math, name) for name in ("sin", "cos", "tan", "asin", "acos", "atan", "exp", "log")},
    "Abs": abs,
    "factorial": lambda n: float(math.factorial(int(n))) if n == int(n) and n <= _MAX_FACTORIAL else math.inf,
}


def is_number(text: str) -> bool:
    """Whether the text is a plain number, not an expression."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _evaluate(node: Any) -> float:
    """Raises ValueError for what has no real value: a symbol, an interval, a relation."""
    if node.is_Number or node.is_NumberSymbol:
        return float(node)
    arguments = [_evaluate(argument) for argument in node.args]
    if node.is_Add:
        return math.fsum(arguments)
    if node.is_Mul:
        return math.prod(arguments)
    if node.is_Pow:
        return math.pow(*arguments)
    function = _FUNCTIONS.get(type(node).__name__)
    if function is None or not arguments:
        raise ValueError(f"no value: {type(node).__name__}")
    return function(*arguments)


_COMMAND = re.compile(
    r"\\(?:frac|sqrt|pi|times|cdot|div|sin|cos|tan|arcsin|arccos|arctan|log|ln|exp|left|right)(?![a-zA-Z])"
)
_LETTER = re.compile(r"[^\W\d_π]")


def _is_arithmetic(text: str) -> bool:
    """Short enough, no variables or words, no command that we cannot evaluate, brackets not too deep."""
    if not 0 < len(text) <= MAX_CHARACTERS or text.count("|") > MAX_BARS or _LETTER.search(_COMMAND.sub("", text)):
        return False
    return max(accumulate((char in "({[") - (char in ")}]") for char in text)) <= MAX_DEPTH


@lru_cache(maxsize=4096)
def value(text: str) -> float | None:
    r"""The real value of a number or a LaTeX expression; None when it has none.

    Example: `value(r"\frac{3}{2}") == 1.5`, `value("2x") is None`
    """
    if is_number(text):
        return float(text)
    if not _is_arithmetic(text):
        return None
    from latex2sympy2_extended import latex2sympy  # 1.5 s, and most answers are plain numbers

    try:
        result = _evaluate(latex2sympy(text))
    except Exception:  # The parser raises plain Exceptions for what it cannot read; overflow and domain are ours.
        return None
    return result if math.isfinite(result) else None
