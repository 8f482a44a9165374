"""Units of measurement: what a name means in base units, and values without and in them.

    "km" -> meaning() -> (1000, {"m": 1});  "N" -> (1, {"kg": 1, "m": 1, "s": -2});  "apples" -> (1, {"apple": 1})

A closed table with the SI prefixes, because the text is the policy's. A counted thing is a plural word after a number.
"""

import re
from fractions import Fraction
from functools import lru_cache

from verl_axpo.rewards.algebra import Poly, mapped

MAX_POWER = 30  # of a unit that is converted

Meaning = tuple[Fraction, dict[str, int]]

_PREFIXES = {"p": -12, "n": -9, "μ": -6, "u": -6, "m": -3, "c": -2, "d": -1, "h": 2, "k": 3, "M": 6, "G": 9, "T": 12}
_PREFIX_WORDS = {
    "nano": "n",
    "micro": "μ",
    "milli": "m",
    "centi": "c",
    "deci": "d",
    "kilo": "k",
    "mega": "M",
    "giga": "G",
}
_SI = {  # takes prefixes: name -> factor and base units
    "m": "1 m", "g": "1/1000 kg", "s": "1 s", "A": "1 A", "K": "1 K", "mol": "1 mol", "L": "1/1000 m3",
    "l": "1/1000 m3",
    "N": "1 kg m s-2", "Pa": "1 kg m-1 s-2", "J": "1 kg m2 s-2", "W": "1 kg m2 s-3", "C": "1 A s", "Hz": "1 s-1",
    "V": "1 kg m2 s-3 A-1", "Ω": "1 kg m2 s-3 A-2", "F": "1 kg-1 m-2 s4 A2", "T": "1 kg s-2 A-1",
    "H": "1 kg m2 s-2 A-2",
    "Wb": "1 kg m2 s-2 A-1", "eV": "1 eV", "cal": "4184/1000 kg m2 s-2", "bar": "100000 kg m-1 s-2", "B": "1 byte",
    "M": "1000 mol m-3", "cd": "1 cd", "lm": "1 cd sr", "lx": "1 cd sr m-2", "Bq": "1 s-1", "Gy": "1 m2 s-2",
}  # fmt: skip
_OTHER = {
    "min": "60 s", "h": "3600 s", "hr": "3600 s", "day": "86400 s", "week": "604800 s", "month": "1 month",
    "year": "1 year",
    "in": "127/5000 m", "ft": "381/1250 m", "yd": "1143/1250 m", "mi": "201168/125 m", "mph": "1397/3125 m s-1",
    "lb": "45359237/100000000 kg", "oz": "45359237/1600000000 kg", "ton": "1000 kg", "Wh": "3600 kg m2 s-2",
    "kWh": "3600000 kg m2 s-2", "ha": "10000 m2", "atm": "101325 kg m-1 s-2", "°": "1 °", "rad": "1 rad", "°C": "1 °C",
    "°F": "1 °F", "%": "1/100", "$": "1 $", "¢": "1/100 $", "€": "1 €", "£": "1 £", "¥": "1 ¥", "unit": "1 unit",
    "dB": "1 dB", "Nm": "1 kg m2 s-2", "cc": "1/1000000 m3", "ppm": "1/1000000", "rpm": "1/60 rev s-1",
    "Å": "1/10000000000 m", "mmHg": "133322387415/1000000000 kg m-1 s-2", "t": "1000 kg", "yr": "1 year",
}  # fmt: skip
_WORDS = {
    "meter": "m", "metre": "m", "gram": "g", "second": "s", "sec": "s", "ampere": "A", "amp": "A", "kelvin": "K",
    "mole": "mol", "liter": "L", "litre": "L", "newton": "N", "pascal": "Pa", "joule": "J", "watt": "W", "coulomb": "C",
    "hertz": "Hz", "volt": "V", "ohm": "Ω", "farad": "F", "tesla": "T", "henry": "H", "byte": "B", "calorie": "cal",
    "minute": "min", "hour": "h", "inch": "in", "inches": "in", "hz": "Hz", "kwh": "kWh", "foot": "ft", "feet": "ft",
    "yard": "yd", "mile": "mi", "pound": "lb",
    "ounce": "oz", "tonne": "ton", "hectare": "ha", "degree": "°", "deg": "°", "radian": "rad", "celsius": "°C",
    "fahrenheit": "°F", "percent": "%", "dollar": "$", "usd": "$", "cent": "¢", "euro": "€", "eur": "€", "gbp": "£",
    "yuan": "¥", "rmb": "¥", "cny": "¥", "\u2126": "Ω", "people": "person", "children": "child", "men": "man",
    "women": "woman",
    "米": "m", "厘米": "cm", "毫米": "mm", "分米": "dm", "千米": "km", "公里": "km", "纳米": "nm", "微米": "μm",
    "克": "g",
    "千克": "kg", "公斤": "kg", "吨": "ton", "秒": "s", "分钟": "min", "小时": "h", "天": "day", "年": "year",
    "升": "L",
    "毫升": "mL", "度": "°", "元": "¥", "牛": "N", "牛顿": "N", "帕": "Pa", "焦": "J", "焦耳": "J", "瓦": "W",
    "伏": "V", "安": "A",
    "欧": "Ω", "欧姆": "Ω", "公顷": "ha",
}  # fmt: skip
# What may follow a number and is not what is counted: it changes the number, or takes it back
_NUMERALS = [
    "dozens",
    "hundreds",
    "thousands",
    "millions",
    "billions",
    "trillions",
    "halves",
    "tens",
    "scores",
    "pairs",
    "times",
    "plus",
    "minus",
    "less",
    "is",
    "was",
    "does",
    "this",
]
_CJK_COUNTED = re.compile(r"[\u4e00-\u9fff]{1,3}")
_CJK_NUMERAL = re.compile(r"[〇零一二三四五六七八九十百千万亿半多几余倍成分负不非或约左右以上下至]")
_PLURAL = re.compile(r"[a-z]{2,}[a-z]s|person|child|man|woman")
_ORDINAL = re.compile(r".*(?:th|ir|ixt|our)s$")  # "3 hundredths", "3 thirds", "3 fourths"
_POWER = re.compile(r"([^\d-]+)(-?\d+)?")


@lru_cache(maxsize=4096)
def meaning(name: str) -> Meaning | None:
    """What a unit's name means; None when it is neither in the table nor something counted."""
    word = name if len(name) == 1 else name.lower()
    word = _WORDS.get(word) or _WORDS.get(word.removesuffix("s")) or name
    for candidate in dict.fromkeys((word, word.lower(), word.lower().removesuffix("s"))) if len(word) > 1 else (word,):
        if found := _measured(candidate):
            return found
    if _CJK_COUNTED.fullmatch(word) and not _CJK_NUMERAL.search(word):
        return Fraction(1), {word: 1}
    lower = word.lower()
    if not _PLURAL.fullmatch(lower) or lower in _NUMERALS or _ORDINAL.fullmatch(lower):
        return None
    return Fraction(1), {lower.removesuffix("s"): 1}


def _measured(name: str) -> Meaning | None:
    if base := _SI.get(name) or _OTHER.get(name):
        return _parsed(base)
    for word, prefix in _PREFIX_WORDS.items():
        if name.startswith(word) and (unit := _WORDS.get(name.removeprefix(word).removesuffix("s"))) in _SI:
            return _measured(f"{prefix}{unit}")
    if name[:1] in _PREFIXES and (base := _SI.get(name[1:])):
        factor, powers = _parsed(base)
        return factor * Fraction(10) ** _PREFIXES[name[0]], powers
    return None


def _parsed(base: str) -> Meaning:
    factor, *names = base.split()
    matches = [_POWER.fullmatch(name) for name in names]
    return Fraction(factor), {match[1]: int(match[2] or 1) for match in matches if match}


def units_of(poly: Poly) -> set[str]:
    """The units in a value; the reader writes them as "@cm"."""
    return {base for monomial in poly for base, _ in monomial if base[0] == "@"}


def without_units(poly: Poly) -> Poly:
    """The value's number alone."""
    return mapped(poly, lambda base, exponent: (Fraction(1), {} if base[0] == "@" else {base: exponent}))


def in_base_units(poly: Poly) -> Poly:
    """The value in base units: 120 cm and 1.2 m are the same."""
    return mapped(poly, _in_base)


def _in_base(base: str, exponent: Fraction) -> tuple[Fraction, dict[str, Fraction]]:
    known = meaning(base[1:]) if base[0] == "@" else None
    if known is None or exponent.denominator > 1 or abs(exponent) > MAX_POWER:
        return Fraction(1), {base: exponent}
    factor, powers = known
    return factor**exponent.numerator, {f"@{name}": power * exponent for name, power in powers.items()}
