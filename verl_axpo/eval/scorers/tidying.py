r"""What an answer states, in one spelling: before values and texts are compared.

"$\\text{(B)}$" -> undress() -> "(B)"        "So x is 7." -> stated() -> "7"
"x = 1 1/2" -> tidy() -> "1\\frac{1}{2}"     "3 cm" -> without_unit() -> "3"
"""

import re

from verl_axpo.eval.scorers.numeric import is_number
from verl_axpo.rewards.answer import boxed, plain

MAX_CHARACTERS = 1000  # a longer text is no answer; it would be read for what stands after its last sign
_MAX_BOXES = 8  # nested boxes that are opened; more is not an answer

_LETTER_OF_A_SENTENCE = re.compile(r"^\(?([A-E])\)?\n| \(?([A-E])\)?\.$")  # first line, or last word
_SPOKEN = re.compile(r"\banswer\s+(?:is|should\s+be)\s*:?\s*", re.IGNORECASE)
# What MATH-V's reading of an answer drops or rewrites, on lower-case text.
_REWRITES: tuple[tuple[str, str], ...] = (
    (r"^.*(?:=|\\approx)", ""),  # the value after the last sign
    (r"\s|\\,|\\!|\\ ", ""),
    (r"∞", r"\\infty"),
    (r"\+\\infty", r"\\infty"),
    (r"\\text|\\mbox|\\left|\\right", ""),
    (r"\^\{?\\circ\}?", ""),
    (r"\{?m\}?\^3|\{?units\}?|\{?km\}?", ""),
    (r"\\\$|\$|\\%", ""),
    (r"[dt]frac", "frac"),
    (r"\\sqrt(\d)", r"\\sqrt{\1}"),
    (r"^\.(?=\d)", "0."),
    (r"^(-?\d+)/(\d+)$", r"\\frac{\1}{\2}"),
    (r"\(([a-e])\)", r"\1"),
    (r"^\{([^{}]*)\}\.?$", r"\1"),  # what \text{} leaves
)
# What it leaves in, though it says nothing about the answer.
_WIDER: tuple[tuple[str, str], ...] = (
    (r"°|%", ""),
    (r"\\frac(\d)(\d)", r"\\frac{\1}{\2}"),
    (r"^(?:approximately|roughly|about|around)(?=\d|\\)", ""),
)
# MATH-V drops every space, and reads 1 1/2 as 11/2. Spaces stand in groups of three digits, and in mixed numbers; any
# other one between two digits stays, as a sign that has no value.
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:\s+\d{3})+(?!\d|\s*/)")
_MIXED = re.compile(r"(\d)\s+(\d+)\s*/\s*(\d+)(?!\d)")
_BETWEEN_DIGITS = re.compile(r"(?<=\d)\s+(?=\d)")
_DEGREE = re.compile(r"\^\s*\{?\s*\\circ(?![a-zA-Z])\s*\}?")
# A unit after a value, by its form: words, or a single letter after a space, and what joins and raises units.
_UNIT = re.compile(
    r"(?<=[\d)\]}°π!])\s*(?!(?:hundred|thousand|million|billion|trillion|dozen|hal(?:f|ves)|or|and|pi)s?\b)"
    r"(?:(?<![^\W\d_\\])[^\W\d_]{2,}(?![^\W\d_])|(?<=[\s}°])[mgshlLKNJWVACF](?!\w))"
    r"(?:(?<![^\W\d_\\])[^\W\d_]+(?![^\W\d_])|\\cdot(?![a-zA-Z])|[\s./·*]|\^\s*\{?\s*-?\d\s*\}?)*$"
)


def unboxed(text: str) -> str:
    r"""The content of the last `\boxed{}`, boxes inside it opened too; the text itself when there is none."""
    for _ in range(_MAX_BOXES):
        inner = boxed(text)
        if inner is None:
            return text
        text = inner
    return text


def undress(answer: str) -> str:
    r"""The answer in the rewards' plain spelling; of several boxes the last one counts.

    Example: `undress(r"$\mathbf{C}$") == "C"`
    """
    return re.sub(r"[ ~]+", " ", plain(unboxed(answer))).strip('" ')


def stated(answer: str) -> str:
    """What a sentence states, as MATH-V reads it: its closing letter, the number after "is", what the answer is.

    Example: `stated("So x is 7.") == "7"`, `stated("The answer is (B).") == "B"`
    """
    text = answer.strip()
    if closing := _LETTER_OF_A_SENTENCE.search(text):
        return closing[1] or closing[2]
    last = text.split("is ")[-1].rstrip(".")
    return last if is_number(last) else _SPOKEN.split(text)[-1]


def tidy(text: str, *, wider: bool = True) -> str:
    r"""An answer as MATH-V compares it: lower case, no white space, units, degree and percent signs.

    Args:
        text: what was stated.
        wider: also take off fonts, signs and forms that MATH-V leaves in.

    Example: `tidy(r"x = \dfrac12^{\circ}") == r"\frac{1}{2}"`
    """
    short = (_digits_apart(undress(text)) if wider else unboxed(text)).lower()
    for pattern, replacement in (*_REWRITES, *_WIDER) if wider else _REWRITES:
        short = re.sub(pattern, replacement, short, flags=re.DOTALL)
    return short.rstrip(".").lstrip(":")


def _digits_apart(text: str) -> str:
    """The text without the spaces inside numbers, and with a sign for a space that stands between two."""
    grouped = _GROUPED.sub(lambda number: re.sub(r"\s", "", number[0]), text)
    return _BETWEEN_DIGITS.sub("\u2423", _MIXED.sub(r"\1\\frac{\2}{\3}", grouped))


def without_unit(answer: str) -> str:
    r"""The undressed answer without a unit at its end, which no official comparison knows.

    Example: `without_unit(r"3 \text{ cm}^2") == "3"`, `without_unit("2x") == "2x"`
    """
    return answer if len(answer) > MAX_CHARACTERS else _UNIT.sub("", _DEGREE.sub("°", undress(answer)).rstrip(" ."))
