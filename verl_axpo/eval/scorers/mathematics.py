"""Equality of mathematical answers.

answer -> tidy() ------------> equal text | equal tuple | equal value at 2 decimals   mathv_equal()
       -> undress() -> statements(), the truth too -> each: same name, equal value     is_equal()
       ----------------------> equal text | values within 1e-6                         vlmevalkit_equal()
"(1) 3; (2) $x=5$" -> parts() -> is_equal() one by one                                 all_equal()
"""

import re

from verl_axpo.eval.scorers.numeric import is_number, value
from verl_axpo.eval.scorers.relations import SIGN, is_equation, named, statements
from verl_axpo.eval.scorers.wrapping import unboxed, undress

MAX_CHARACTERS = 1000  # a longer text is no answer; it would be read for what stands after its last sign
DECIMALS = 2  # MATH-V rounds both values to so many decimals
VLMEVALKIT_TOLERANCE = 1e-6

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
_WIDER: tuple[tuple[str, str], ...] = ((r"°|%", ""), (r"\\frac(\d)(\d)", r"\\frac{\1}{\2}"))
_TUPLE = re.compile(r"([(\[])(.+,.+)([)\]])")
_ENUMERATOR = re.compile(r"(?:^\d\)|(?:^|(?<=[\s;,]))(?:\(\d\)|[①-⑨]|[Pp]art\s*\d\s*:))\s*", re.MULTILINE)
_SEPARATORS = (r"[;\n]", r",(?![^(\[{]*[)\]}])", r"\band\b")
_FULL_WIDTH = str.maketrans("\uff1b\uff0c\uff08\uff09", ";,()")  # the problems are translated from Chinese


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
    plain = (undress(text) if wider else unboxed(text)).lower()
    for pattern, replacement in (*_REWRITES, *_WIDER) if wider else _REWRITES:
        plain = re.sub(pattern, replacement, plain, flags=re.DOTALL)
    return plain.rstrip(".").lstrip(":")


def _same_value(one: str, other: str) -> bool:
    if any(len(text) == 1 and text.isalpha() for text in (one, other)):
        return False  # a letter, not the constant e
    first, second = value(one), value(other)
    return first is not None and second is not None and round(first, DECIMALS) == round(second, DECIMALS)


def _compare(one: str, other: str) -> bool:
    if not one or not other:
        return False
    if one == other:
        return True
    tuples = _TUPLE.fullmatch(one), _TUPLE.fullmatch(other)
    if all(tuples):
        (open_a, inside_a, close_a), (open_b, inside_b, close_b) = (found.groups() for found in tuples if found)
        items = inside_a.split(","), inside_b.split(",")
        same = len(items[0]) == len(items[1]) and (open_a, close_a) == (open_b, close_b)
        return same and all(a == b or _same_value(a, b) for a, b in zip(*items, strict=True))
    return _same_value(one, other)


def mathv_equal(answer: str, truth: str) -> bool:
    """MATH-V's own verdict: the answer is tidied, the truth only lower-cased; tuples by element, not as text."""
    said = stated(answer)
    return len(unboxed(said)) <= MAX_CHARACTERS and _compare(tidy(said, wider=False), truth.lower().strip())


def _agree(one: list[str], other: list[str]) -> bool:
    """Whether two statements give equal values to the same thing; one of them may leave its name out."""
    (*lefts, said), (*others, meant) = ([tidy(member) for member in members] for members in (one, other))
    if not _compare(said, meant):
        return False
    if lefts and others:
        ours, theirs = set(map(named, lefts)), set(map(named, others))
        return ours <= theirs or ours >= theirs
    return not any(map(is_equation, (lefts or others)[:1]))


def _same_text(one: str, other: str) -> bool:
    ours, theirs = ([tidy(member) for member in SIGN.split(undress(text))] for text in (one, other))
    return any(ours) and ours == theirs


def is_equal(answer: str, truth: str) -> bool:
    r"""MATH-V's comparison of values on what both texts state, undressed and tidied; nothing that is stated is dropped.

    Statements agree one by one, in order: equal values, and the same left side where both have one. A text that states
    no values (an inequality, signs that form no chain) equals only the same text.

    Example: `is_equal(r"$x=\frac{1}{3}$", "0.33")`, `not is_equal("x=5, y=2", "x=1, y=2")`, `not is_equal("", "")`
    """
    said = stated(undress(answer))
    if len(said) > MAX_CHARACTERS:
        return False
    if _same_text(said, truth):
        return True
    ours, theirs = statements(said), statements(undress(truth))
    return len(ours) == len(theirs) > 0 and all(map(_agree, ours, theirs))


def vlmevalkit_equal(answer: str, truth: str) -> bool:
    """VLMEvalKit's verdict on a free answer: equal text without case, or values closer than 1e-6."""
    one, other = answer.strip().lower(), truth.strip().lower()
    first, second = value(one), value(other)
    close = first is not None and second is not None and abs(first - second) < VLMEVALKIT_TOLERANCE
    return one == other or close


def parts(text: str, count: int) -> list[str]:
    """The sub-answers of an answer that has `count` of them.

    Split at enumerators `(1)`, `①`, `Part 1:`, else at semicolons and lines, commas outside brackets, the word "and":
    the first that gives exactly `count` parts. One part, the whole, when none does.
    """
    plain = undress(text).translate(_FULL_WIDTH)
    if len(plain) > MAX_CHARACTERS:
        return [plain]
    for pattern in (_ENUMERATOR, *map(re.compile, _SEPARATORS)):
        found = [part for piece in pattern.split(plain) if (part := _ENUMERATOR.sub("", piece).strip(" ;,.\n"))]
        if len(found) == count:
            return found
    return [plain]


def all_equal(answer: str, truth: str, count: int) -> bool:
    """Whether every sub-answer equals its counterpart; a text that does not split into `count` equals only itself."""
    ours, theirs = parts(answer, count), parts(truth, count)
    if not len(ours) == len(theirs) == count:
        return len(answer) <= MAX_CHARACTERS and _same_text(answer, truth)
    return all(map(is_equal, ours, theirs))
