"""Equality of mathematical answers.

answer -> tidy() ------------> equal text | equal tuple | equal value at 2 decimals   mathv_equal()
       -> undress() -> statements(), the truth too -> each: same name, equal value     is_equal()
       ----------------------> equal text | values within 1e-6                         vlmevalkit_equal()
       -> undress() -> its only statement -> the value after its last sign             stated_value()
"(1) 3; (2) $x=5$" -> parts() -> is_equal() one by one                                 all_equal()
"""

import math
import re
from collections.abc import Callable

from verl_axpo.eval.scorers.numeric import value
from verl_axpo.eval.scorers.relations import SIGN, is_equation, named, statements
from verl_axpo.eval.scorers.tidying import MAX_CHARACTERS, stated, tidy, unboxed, undress, without_unit

DECIMALS = 2  # MATH-V rounds both values to so many decimals
VLMEVALKIT_TOLERANCE = 1e-6
FLOAT_NOISE = 1e-12

# What MATH-V cannot read, and where it multiplies: 1\frac{1}{2} and 1 1/2 are officially a half.
_OFFICIALLY_UNREADABLE = re.compile(r"[°π|\u2212]|\\frac\d|\\ln(?![a-z])|(?<![a-z\\])pi(?![a-z])")
_OFFICIAL_PRODUCT = re.compile(r"(?<=\d)(?:\s+(?=\d)|(?=\\frac))")
_ROUNDED = re.compile(r"≈|\\(?:approx|simeq)")
_OTHER_SCALE = re.compile(r"°|\\circ|%")
_TUPLE = re.compile(r"([(\[])(.+,.+)([)\]])")
_CIRCLED = {ord("①") + place: f" ({place + 1}) " for place in range(9)}
_ENUMERATOR = re.compile(r"(?:^\d\)|(?:^|(?<=[\s;,]))(?:\(\d\)|[Pp]art\s*\d\s*:))\s*", re.MULTILINE)
_SEPARATORS = (r"[;\n]", r",(?![^(\[{]*[)\]}])", r"\band\b")


def _official_value(text: str) -> float | None:
    return None if _OFFICIALLY_UNREADABLE.search(text) else value(_OFFICIAL_PRODUCT.sub("*", text))


def _officially_same(one: str, other: str) -> bool:
    first, second = _official_value(one), _official_value(other)
    return first is not None and second is not None and round(first, DECIMALS) == round(second, DECIMALS)


def _same_value(one: str, other: str) -> bool:
    """MATH-V's rounding, but that two values which both round to nothing have to be near each other."""
    first, second = value(one), value(other)
    if first is None or second is None or round(first, DECIMALS) != round(second, DECIMALS):
        return False
    noise = FLOAT_NOISE if 0.0 in (first, second) else 0.0  # sin(pi) is zero
    return round(first, DECIMALS) != 0 or math.isclose(first, second, rel_tol=0.1**DECIMALS, abs_tol=noise)


def _compare(one: str, other: str, same: Callable[[str, str], bool] = _same_value) -> bool:
    if not one or not other:
        return False
    if one == other:
        return True
    tuples = _TUPLE.fullmatch(one), _TUPLE.fullmatch(other)
    if all(tuples):
        (open_a, inside_a, close_a), (open_b, inside_b, close_b) = (found.groups() for found in tuples if found)
        items = inside_a.split(","), inside_b.split(",")
        is_alike = len(items[0]) == len(items[1]) and (open_a, close_a) == (open_b, close_b)
        return is_alike and all(a == b or same(a, b) for a, b in zip(*items, strict=True))
    return same(one, other)


def mathv_equal(answer: str, truth: str) -> bool:
    """MATH-V's own verdict: the answer is tidied, the truth only lower-cased; tuples by element, not as text."""
    said = stated(answer)
    if len(unboxed(said)) > MAX_CHARACTERS:
        return False
    return _compare(tidy(said, wider=False), truth.lower().strip(), _officially_same)


def _agree(one: list[str], other: list[str]) -> bool:
    """Whether two statements give equal values to the same thing; one of them may leave its name out."""
    (*lefts, said), (*others, meant) = ([tidy(member) for member in members] for members in (one, other))
    if not _compare(said, meant):
        return False
    if lefts and others:
        ours, theirs = set(map(named, lefts)), set(map(named, others))
        return ours <= theirs or ours >= theirs
    return not any(map(is_equation, (lefts or others)[:1]))


def _contradicts(members: list[str]) -> bool:
    """Whether the values of a chain differ: "6 = 5" states nothing. A degree or percent sign may change the value."""
    values = [tidy(member) for member in members if not _OTHER_SCALE.search(member)]
    *lefts, last = [text for text in values if value(text) is not None] or [""]
    return any(not _same_value(left, last) for left in lefts)


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
    if len(ours) != len(theirs) or not all(map(_agree, ours, theirs)):
        return False
    return bool(ours) and (bool(_ROUNDED.search(said)) or not any(map(_contradicts, ours)))


def stated_value(answer: str) -> float | None:
    r"""The value of the one thing that an answer states, after its last sign, without a unit; None where it has none.

    Example: `stated_value(r"x = \dfrac{1}{2} \text{ cm}") == 0.5`, `stated_value("12 or 13") is None`
    """
    said = stated(undress(answer))
    found = statements(said) if len(said) <= MAX_CHARACTERS else []
    return value(tidy(without_unit(found[0][-1].strip()))) if len(found) == 1 else None


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
    plain = undress(text.translate(_CIRCLED))
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
