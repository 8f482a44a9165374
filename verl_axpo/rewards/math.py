r"""Mathematical answers: numbers, units, percent, LaTeX, intervals, tuples, sets.

    answer, truth -> clean() -> equal texts?  -> plain numbers?  -> words? -> brackets?     all in process, microseconds
                                                                                  |_ Algebra: math-verify in a process

The cheap comparisons come first and decide nearly every answer. What only algebra can compare goes to `algebra.py`,
whose processes are killed when a comparison uses up its time, so that no answer can hang a run.
"""

import re
from dataclasses import dataclass

from verl_axpo.rewards.algebra import algebra
from verl_axpo.rewards.answer import unboxed
from verl_axpo.rewards.quantity import parse_quantity, same_quantity
from verl_axpo.rewards.units import split_unit

MAX_CHARS = 2000  # of an answer; no final answer of the data sets is longer, and parsing is worse than linear
MIN_WORD = 3  # letters; from here on a run of letters is a word, not a product of variables

_SYMBOLS = str.maketrans(
    {
        "\N{MINUS SIGN}": "-",
        "\N{EN DASH}": "-",
        "\N{MULTIPLICATION SIGN}": r"\times ",
        "·": r"\cdot ",
        "÷": "/",
        "≤": r"\le ",
        "≥": r"\ge ",
        "≠": r"\ne ",
        "∞": r"\infty ",
        "\N{UNION}": r"\cup ",
        "∩": r"\cap ",
        "π": r"\pi ",
        "θ": r"\theta ",
        "±": r"\pm ",
        "½": r"\frac{1}{2}",
        "¼": r"\frac{1}{4}",
        "¾": r"\frac{3}{4}",
        "\N{NO-BREAK SPACE}": " ",
        "\n": " ",
    }
)
_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\\(|\\\)|\\\[|\\\]|\$\$", ""),
        (r"\\(?:left|right|big|Big|displaystyle)(?![a-zA-Z])", ""),
        (r"\\!", ""),
        (r"\{,\}", ","),  # a thousands separator as TeX wants it
        (r"\\[,;: ]|~|\\quad(?![a-zA-Z])", " "),
        (r"\\[dt]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\(?:text|textbf|textit|mathrm|mathbf|operatorname|mbox)\s*\{([^{}]*)\}", r" \1 "),
        (r"\^\s*\{?\s*\\circ\s*\}?|\\degree(?![a-zA-Z])", "°"),
        (r"°\s+(?=[CF]\b)", "°"),
        (r"√\s*(\d+|[a-zA-Z]|\([^()]*\))", r"\\sqrt{\1}"),
        (r"\\([%$])", r"\1"),
        (r"\s+", " "),
    )
]
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_WORD = re.compile(rf"[^\W\d_]{{{MIN_WORD},}}")
_MATH_WORDS = frozenset(("sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "sqrt", "and", "max", "min", "mod"))
_CURRENCY_AS_MATH = re.compile(r"\$(.*)\$", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expressions:
    """Two cleaned expressions that only algebra can compare."""

    answer: str
    truth: str


async def same_value(answer: str, truth: str) -> bool | None:
    """Whether `answer` is a way to write `truth`.

    Returns:
        None when algebra used up its time without a verdict.

    Raises:
        InfraFailure: no process could compare them (`algebra.py` says when).
    """
    verdict = compare(answer, truth)
    return verdict if isinstance(verdict, bool) else await algebra().equal(verdict.answer, verdict.truth)


def compare(answer: str, truth: str) -> bool | Expressions:
    """The verdict where text, plain numbers, words or brackets decide; else what algebra has to compare."""
    if len(answer) > MAX_CHARS:
        return False
    ours, theirs = clean(unboxed(answer)), clean(unboxed(truth))
    if not ours or not theirs:
        return False
    if _squeezed(ours) == _squeezed(theirs):
        return True
    numbers = parse_quantity(ours), parse_quantity(theirs)
    if numbers[0] and numbers[1]:
        return same_quantity(numbers[0], numbers[1])
    (ours, unit), (theirs, wanted) = split_unit(ours), split_unit(theirs)
    if unit and wanted and unit != wanted:
        return False
    if _has_word(ours) or _has_word(theirs):
        return _squeezed(ours).casefold() == _squeezed(theirs).casefold()
    if _is_set(ours) is not _is_set(theirs) and _is_bracketed(ours) and _is_bracketed(theirs):
        return False
    return Expressions(answer=_bare(ours), truth=_bare(theirs))


def clean(text: str) -> str:
    """One spelling for what is only typography: math delimiters, spacing, `\\dfrac`, `\\text{}`, Unicode signs."""
    text = text.strip()
    if match := _CURRENCY_AS_MATH.fullmatch(text):
        text = match[1]
    text = text.translate(_SYMBOLS)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text.strip().rstrip(".").strip()


def _squeezed(text: str) -> str:
    return text.replace(" ", "")


def _has_word(text: str) -> bool:
    words = _WORD.findall(_COMMAND.sub(" ", text))
    return any(word.casefold() not in _MATH_WORDS for word in words)


def _is_set(text: str) -> bool:
    return text.startswith(r"\{")


def _is_bracketed(text: str) -> bool:
    return text.startswith(("(", "[", r"\{"))


def _bare(text: str) -> str:
    """Without what math-verify cannot read: the percent sign of an expression, stray dollar signs."""
    return text.removesuffix("%").replace("$", "").strip()
