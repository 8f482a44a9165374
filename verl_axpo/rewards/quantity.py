r"""Plain numbers, exactly: "3/4", "-1,234.50", "1\frac{1}{2}", "3 \times 10^5", "50%", "12 cm" -> Quantity -> equal?

    cleaned text -> parse_quantity() -> Quantity | None -> same_quantity()

Fractions throughout, so nothing is rounded but what the answer itself rounded, and nothing here can take long: numbers
of more than `MAX_CHARS` characters or with an exponent beyond three digits are not plain.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from verl_axpo.rewards.units import Unit, split_unit

MAX_CHARS = 64  # of a plain number
ROUNDED_PLACES = 6  # a decimal with this many places or more stands for everything that rounds to it
FLOAT_NOISE = Fraction(1, 10**12)  # relative; what binary floats add to a decimal stays below

_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_DECIMAL = rf"(?:{_INTEGER}\.\d*|{_INTEGER}|\.\d+)"
_POWER = r"(?:e([+-]?\d{1,3})|\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*(?:\{\s*([+-]?\d{1,3})\s*\}|([+-]?\d{1,3})))"
_NUMBER = re.compile(rf"({_DECIMAL}){_POWER}?", re.IGNORECASE)
_FRACTION = re.compile(
    rf"(?:({_INTEGER})\s*)?\\frac\s*(?:\{{\s*([+-]?{_DECIMAL})\s*\}}|(\d))\s*(?:\{{\s*([+-]?{_DECIMAL})\s*\}}|(\d))"
)
_SLASH = re.compile(rf"(?:({_INTEGER})\s+)?({_DECIMAL})\s*/\s*({_DECIMAL})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A number as written.

    `places` counts its decimals after the exponent is applied, None for a whole number or a fraction. `percent` says
    whether a percent sign follows; `value` is the number before it.

    Example: "12.50 %" is `Quantity(value=Fraction(25, 2), places=2, percent=True, unit=None)`
    """

    value: Fraction
    places: int | None = None
    percent: bool = False
    unit: Unit | None = None


def parse_quantity(text: str) -> Quantity | None:
    """A plain number with an optional sign, percent sign and unit; None for everything else."""
    text, unit = split_unit(text)
    bare = re.sub(r"\s*(?:%|percent)$", "", text, flags=re.IGNORECASE)
    sign, digits = (-1, bare[1:].strip()) if bare.startswith("-") else (1, bare.removeprefix("+").strip())
    while digits.startswith("{") and digits.endswith("}"):
        digits = digits[1:-1].strip()
    if len(digits) > MAX_CHARS:
        return None
    number = _number(digits)
    if number is None:
        return None
    value, places = number
    return Quantity(value=sign * value, places=places, percent=bare != text, unit=unit)


def _number(digits: str) -> tuple[Fraction, int | None] | None:
    if match := _NUMBER.fullmatch(digits):
        exponent = int(match[2] or match[3] or match[4] or 0)
        value = _decimal(match[1]) * Fraction(10) ** exponent
        return value, len(match[1].partition(".")[2]) - exponent if "." in match[1] else None
    if match := _FRACTION.fullmatch(digits):
        whole, top, bottom = match[1] or "0", match[2] or match[3], match[4] or match[5]
    elif match := _SLASH.fullmatch(digits):
        whole, top, bottom = match[1] or "0", match[2], match[3]
    else:
        return None
    if not _decimal(bottom):
        return None
    return _decimal(whole) + _decimal(top) / _decimal(bottom), None


def _decimal(digits: str) -> Fraction:
    return Fraction(digits.replace(",", "").removesuffix("."))


def same_quantity(answer: Quantity, truth: Quantity) -> bool:
    """Whether two plain numbers are the same answer.

    A unit or a percent sign that only one side has says nothing against it (a question may have asked "in cm"), except
    that a percent sign also equals its hundredth: 50 %, 50 and 0.5 all answer "50 %". Different units are converted
    where the table knows both; otherwise they are different answers.
    """
    if (answer.percent and truth.unit) or (truth.percent and answer.unit):
        return False
    if answer.unit and truth.unit:
        if answer.unit.kind != truth.unit.kind:
            return False
        return _close(answer, truth, answer.unit.factor, truth.unit.factor)
    if answer.percent != truth.percent:
        hundredths = (Fraction(1, 100), Fraction(1)) if answer.percent else (Fraction(1), Fraction(1, 100))
        return _close(answer, truth) or _close(answer, truth, *hundredths)
    return _close(answer, truth)


def _close(
    answer: Quantity, truth: Quantity, scale_answer: Fraction = Fraction(1), scale_truth: Fraction = Fraction(1)
) -> bool:
    """Equal, or as close as the coarser of two decimals says; whole numbers and fractions must be equal."""
    difference = abs(answer.value * scale_answer - truth.value * scale_truth)
    if answer.places is None and truth.places is None:
        return difference == 0
    rounding = max(_half_place(answer) * scale_answer, _half_place(truth) * scale_truth)
    return difference <= max(rounding, FLOAT_NOISE * abs(truth.value * scale_truth))


def _half_place(number: Quantity) -> Fraction:
    if number.places is None or number.places < ROUNDED_PLACES:
        return Fraction(0)
    return Fraction(1, 2 * 10**number.places)
