"""Units of measurement behind a number: "1.2 m" -> ("1.2", Unit(kind="length", factor=1)).

    cleaned text -> split_unit() -> (number or expression, Unit | None)

A closed table, because the text is the policy's: what is not in it is a unit only as a plain word ("12 apples"), and
then equals nothing but itself.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

_TABLE: dict[str, dict[str, str]] = {  # kind -> factor to the kind's base unit -> names
    "length": {
        "1/1000": "mm millimeter millimeters millimetre millimetres",
        "1/100": "cm centimeter centimeters centimetre centimetres",
        "1/10": "dm decimeter decimeters decimetre decimetres",
        "1": "m meter meters metre metres",
        "1000": "km kilometer kilometers kilometre kilometres",
        "127/5000": "in inch inches",
        "381/1250": "ft foot feet",
        "1143/1250": "yd yard yards",
        "201168/125": "mi mile miles",
    },
    "unit": {"1": "unit units"},
    "mass": {
        "1/1000": "mg milligram milligrams",
        "1": "g gram grams",
        "1000": "kg kilogram kilograms",
        "1000000": "tonne tonnes",
        "45359237/100000": "lb lbs",
    },
    "time": {
        "1/1000": "ms millisecond milliseconds",
        "1": "s sec secs second seconds",
        "60": "min mins minute minutes",
        "3600": "h hr hrs hour hours",
        "86400": "day days",
        "604800": "week weeks",
    },
    "volume": {"1/1000": "ml milliliter milliliters millilitre millilitres", "1": "l L liter liters litre litres"},
    "angle": {"1": "° degree degrees deg"},
    "radian": {"1": "rad radian radians"},
    "celsius": {"1": "°c celsius"},
    "fahrenheit": {"1": "°f fahrenheit"},
    "dollar": {"1/100": "¢ cent cents", "1": "$ dollar dollars usd"},
    "euro": {"1": "€ euro euros eur"},
    "pound": {"1": "£ gbp"},
    "yuan": {"1": "¥ yuan cny rmb"},
    "newton": {"1": "N newton newtons"},
    "joule": {"1": "J joule joules", "1000": "kj"},
    "watt": {"1": "W watt watts", "1000": "kw"},
    "volt": {"1": "V volt volts"},
    "ampere": {"1": "A amp amps ampere amperes"},
    "ohm": {"1": "Ω ohm ohms"},
    "hertz": {"1": "hz hertz", "1000": "khz", "1000000": "mhz"},
}
_KNOWN = {
    name: (kind, Fraction(factor))
    for kind, names_of in _TABLE.items()
    for factor, names in names_of.items()
    for name in names.split()
}
_CURRENCY = "$€£¥"
# Words that may follow a number as part of the mathematics, and are not what is counted
_NOT_UNITS = frozenset(
    {
        "and", "sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "sqrt", "root", "max", "min", "mod",
        "infinity", "inf", "from", "times", "plus", "minus", "over", "squared", "cubed", "factorial", "half",
        "halves", "third", "thirds", "quarter", "quarters", "dozen", "dozens", "hundred", "thousand", "million",
        "billion", "trillion", "percent",
    }
)  # fmt: skip
_FACTOR = re.compile(r"(square|sq\.?|cubic)?\s*([a-zA-ZΩ°¢$€£¥]+)\s*(?:\^\s*\{?\s*([23])\s*\}?|([²³]))?")
_TAIL = re.compile(  # a unit begins where its run of signs begins: trying every sign of a long run would be quadratic
    r"(?<![a-zA-ZΩ°¢$€£¥\\])(?P<unit>(?:(?:square|sq\.?|cubic)\s+)?[a-zA-ZΩ°¢$€£¥]+(?:\s*\^\s*\{?\s*[23]\s*\}?|[²³])?"
    r"(?:\s*(?:/|per\s)\s*[a-zA-Z]+(?:\s*\^\s*\{?\s*[23]\s*\}?|[²³])?)?)\s*$"
)
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_MIN_WORD = 3  # letters; shorter words behind a number are products of variables


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What is measured, and in which multiple of its base unit.

    Example: "km/h" is `Unit(kind="length/time", factor=Fraction(5, 18))`
    """

    kind: str
    factor: Fraction


def parse_unit(text: str) -> Unit | None:
    """The unit that `text` names as a whole; None when it is none of the table, nor a plain word."""
    parts = re.split(r"\s*(?:/|\bper\b)\s*", text.strip())
    factors = [_factor(part) for part in parts]
    known = [factor for factor in factors if factor is not None]
    if len(known) < len(factors) or len(factors) > 2:
        word = text.strip().lower()
        is_part_of_number = word in _NOT_UNITS or word.endswith(("th", "ths"))  # "3 hundredths"
        is_word = word.isalpha() and len(word) >= _MIN_WORD and not is_part_of_number
        return Unit(kind=f"word {word.removesuffix('s')}", factor=Fraction(1)) if is_word else None
    top, *below = known
    if not below:
        return top
    return Unit(kind=f"{top.kind}/{below[0].kind}", factor=top.factor / below[0].factor)


def _factor(text: str) -> Unit | None:
    match = _FACTOR.fullmatch(text)
    name = "" if match is None else match[2] if len(match[2]) == 1 else match[2].lower()  # m is not M, KM is km
    if match is None or name not in _KNOWN:
        return None
    exponents = {"square": 2, "sq": 2, "sq.": 2, "cubic": 3, "²": 2, "³": 3, None: 1}
    power = int(match[3]) if match[3] else exponents[match[4] or match[1]]
    kind, factor = _KNOWN[name]
    if kind == "length" and power == 3:  # litres are cubic decimetres
        return Unit(kind="volume", factor=factor**3 * 1000)
    return Unit(kind=kind if power == 1 else f"{kind}^{power}", factor=factor**power)


def split_unit(text: str) -> tuple[str, Unit | None]:
    """Number or expression, and the unit around it; the text as it is when there is none.

    A single letter is a unit only when a space sets it off from a body without letters: `5 m` is a length, `5m` and
    `2a m` are products.
    """
    if text[:1] in _CURRENCY and text[1:].strip():
        return text[1:].strip(), parse_unit(text[0])
    match = _TAIL.search(text)
    if match is None:
        return text, None
    body, name = text[: match.start()].rstrip(), match["unit"]
    unit = parse_unit(name)
    letters = re.sub(r"[^a-zA-Z]", "", _COMMAND.sub("", body))
    if not body or unit is None or (letters and (unit.kind.startswith("word") or len(name) == 1)):
        return text, None
    attached = not text[: match.start()].endswith(" ") and name[0].isalpha()
    if attached and (len(name) == 1 or unit.kind.startswith("word")):
        return text, None
    return body, unit
