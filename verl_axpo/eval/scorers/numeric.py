"""The value of a number or of a LaTeX expression.

    text -> parse (latex2sympy2_extended) -> tree -> value() in floats -> float, or None: not a number

The tree is evaluated in floats, node by node: `9^{9^{9}}` overflows at once where exact integers would hang, so no
time-out is needed and any thread may call this (math-verify's time-outs want the main thread).
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

MAX_CHARACTERS = 120  # longer text is no value; the grammar takes seconds on whole sentences
_MAX_FACTORIAL = 170  # 171! is past the largest float
_FUNCTIONS: dict[str, Callable[..., float]] = {
    **{name: getattr(math, name) for name in ("sin", "cos", "tan", "asin", "acos", "atan", "exp", "log")},
    "Abs": abs,
    "ceiling": math.ceil,
    "factorial": lambda n: float(math.factorial(int(n))) if n == int(n) and n <= _MAX_FACTORIAL else math.inf,
    "floor": math.floor,
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


@lru_cache(maxsize=4096)
def value(text: str) -> float | None:
    r"""The real value of a number or a LaTeX expression; None when it has none.

    Example: `value(r"\frac{3}{2}") == 1.5`, `value("2x") is None`
    """
    if is_number(text):
        return float(text)
    if not text or len(text) > MAX_CHARACTERS:
        return None
    from latex2sympy2_extended import latex2sympy  # 1.5 s, and most answers are plain numbers

    try:
        result = _evaluate(latex2sympy(text))
    except Exception:  # The parser raises plain Exceptions for what it cannot read; overflow and domain are ours.
        return None
    return result if math.isfinite(result) else None
