r"""Mathematical answers: values, expressions, equations, intervals, tuples, sets, lists, matrices.

    answer, truth -> plain() -> the same text? -> tokens() -> Reader -> [Item] each -> the same items, units apart?

Everything happens in process, takes milliseconds and works nothing out but values (`algebra.py`), so that no answer can
hang a run and no question answers itself.
"""

import re
from collections.abc import Sequence

from verl_axpo.rewards import short_text
from verl_axpo.rewards.algebra import Poly, TooLarge, approximate, is_constant, number
from verl_axpo.rewards.answer import MAX_CHARS, plain
from verl_axpo.rewards.reader import Reader
from verl_axpo.rewards.statements import Item
from verl_axpo.rewards.tokens import Unreadable, source, tokens
from verl_axpo.rewards.units import in_base_units, units_of, without_units

ROUNDED_DIGITS = 6  # a decimal with this many significant digits or more stands for everything that rounds to it
FLOAT_DIGITS = 16  # of a binary float
FLOAT_NOISE = 1e-14  # relative; what binary floats add to a value stays below
_SPACE = re.compile(r"(?<!\d) | (?!\d)")  # "1 2" is not "12"
_DATE = re.compile(r"\d{4}([-/])\d{1,2}\1\d{1,2}")  # 2021-03-05 is no subtraction
_WORD = re.compile(r"[^\W\d_]{2}|[\u4e00-\u9fff]")  # signs alone are no text: ']1,2[' is not "1 2"
MAX_UNORDERED = 30  # items; longer lists are compared in order


def compare(answer: str, truth: str) -> bool | None:
    """Whether `answer` is a way to write `truth`; None if a number is too large to compute."""
    if len(answer) > MAX_CHARS:
        return False
    ours, theirs = plain(answer), plain(truth)
    if not ours or not theirs or len(ours) > MAX_CHARS:
        return False
    if _squeezed(ours) == _squeezed(theirs):
        return True
    if _DATE.fullmatch(theirs):
        return short_text.matches(answer, [truth])
    found, wanted = _tokens(ours), _tokens(theirs)
    if found and source(found) == source(wanted):
        return True
    try:
        items, others = _read(found), _read(wanted)
    except TooLarge:
        return None
    if others is None:
        is_text = _WORD.search(theirs) is not None and "\\" not in ours + theirs
        return is_text and short_text.matches(answer, [truth])
    if {"\\and", "\\or"} <= {*found, *wanted} and {"<", ">", "\\le", "\\ge"} & set(wanted):  # "x<1 and x>2"
        return False
    if items is None or (":" in found and ":" in wanted):  # 3:4 and 6:8 are two scores, 3:4 is also 3/4
        return False
    margin = max(_margin(found), _margin(wanted))
    return _same_items(_unnamed(items, others), _unnamed(others, items), margin)


def _squeezed(text: str) -> str:
    return _SPACE.sub("", " ".join(text.split()))


def read(text: str) -> list[Item] | None:
    """The statements of a text; None if it is no mathematics that the rules can read."""
    if len(text) > MAX_CHARS:
        return None
    try:
        return _read(_tokens(plain(text)))
    except TooLarge:
        return None


def _tokens(text: str) -> list[str]:
    """The tokens; none where words stand in the text."""
    try:
        return tokens(text)
    except Unreadable:
        return []


def _read(found: list[str]) -> list[Item] | None:
    try:
        return Reader([{":": "/"}.get(token, token) for token in _both_signs(found)]).whole()
    except Unreadable:
        return None


def _both_signs(found: list[str]) -> list[str]:
    r"""A statement with one \pm as the list of two."""
    if found.count("\\pm") != 1 or any(token in (",", ";", "\\\\", "\\or", "\\and") for token in found):
        return found
    return [sign if token == "\\pm" else token for sign in "+-" for token in (*found, ",")][:-1]


def _margin(found: Sequence[str]) -> float:
    """Half of the last place, relative to the number, of a text whose only number is a long decimal; else 0."""
    numbers = [token for token in found if token[0].isdigit() or (token[0] == "." and token != ".")]
    if len(numbers) != 1 or "." not in numbers[0]:
        return 0.0
    mantissa = numbers[0].partition("e")[0]
    digits = mantissa.replace(".", "").lstrip("0")
    return max(0.5 / int(digits[:FLOAT_DIGITS]), FLOAT_NOISE) if len(digits) >= ROUNDED_DIGITS else 0.0


def _unnamed(items: list[Item], others: list[Item]) -> list[Item]:
    """The values of one name, where the other side has only values: "x = 5" for "5"."""
    names = {item.name for item in items}
    if len(names) == 1 and all(item.name is None and not item.form for item in others):
        return [Item(sides=item.sides, form=item.form) for item in items]
    return items


def _same_items(ours: list[Item], theirs: list[Item], margin: float) -> bool:
    """The same items in any order."""
    if len(ours) != len(theirs):
        return False
    if len(ours) > MAX_UNORDERED:
        return all(_same(item, other, margin) for item, other in zip(ours, theirs, strict=True))
    left = list(theirs)
    for item in ours:
        match = next((other for other in left if _same(item, other, margin)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _same(ours: Item, theirs: Item, margin: float) -> bool:
    if (ours.name, ours.form, len(ours.sides)) != (theirs.name, theirs.form, len(theirs.sides)):
        return False
    return all(_same_value(*pair, margin) for pair in zip(ours.sides, theirs.sides, strict=True))


def _same_value(ours: Poly, theirs: Poly, margin: float) -> bool:
    """A unit on one side only is no difference; a percent sign may be one, or a hundredth."""
    units, wanted = units_of(ours), units_of(theirs)
    if (units and wanted) or "@%" in units | wanted:
        if _near(in_base_units(ours), in_base_units(theirs), margin):
            return True
        if units and wanted:
            return False
    return _near(without_units(ours), without_units(theirs), margin)


def _near(ours: Poly, theirs: Poly, margin: float) -> bool:
    """Equal, or two constants as close as a long decimal says."""
    if ours == theirs:
        return True
    if margin and ours.keys() == theirs.keys() and len(ours) == 1:  # 0.333333x and x/3
        ours, theirs = (number(next(iter(poly.values()))) for poly in (ours, theirs))
    if not margin or not (is_constant(ours) and is_constant(theirs)):
        return False
    value = approximate(theirs)
    return abs(approximate(ours) - value) <= margin * abs(value) * (1 + FLOAT_NOISE)
