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
_PREFIX_WORDS = {name: name[0] for name in ("nano", "milli", "centi", "deci", "kilo")}
_PREFIX_WORDS |= {"micro": "μ", "mega": "M", "giga": "G"}


def _table(text: str) -> dict[str, str]:
    """ "name meaning; name meaning" as a mapping."""
    return {name: meaning for name, _, meaning in (entry.strip().partition(" ") for entry in text.split(";"))}


# Each unit: its factor and base units
_SI = _table(  # these take prefixes
    "m 1 m; g 1/1000 kg; s 1 s; A 1 A; K 1 K; mol 1 mol; L 1/1000 m3; l 1/1000 m3; N 1 kg m s-2; Pa 1 kg m-1 s-2;"
    "J 1 kg m2 s-2; W 1 kg m2 s-3; C 1 A s; Hz 1 s-1; V 1 kg m2 s-3 A-1; Ω 1 kg m2 s-3 A-2; F 1 kg-1 m-2 s4 A2;"
    "T 1 kg s-2 A-1; H 1 kg m2 s-2 A-2; Wb 1 kg m2 s-2 A-1; eV 1 eV; cal 4184/1000 kg m2 s-2; bar 100000 kg m-1 s-2;"
    "B 1 byte; M 1000 mol m-3; cd 1 cd; lm 1 cd sr; lx 1 cd sr m-2; Bq 1 s-1; Gy 1 m2 s-2"
)
_OTHER = _table(
    "min 60 s; h 3600 s; hr 3600 s; day 86400 s; week 604800 s; month 1 month; year 1 year; yr 1 year; in 127/5000 m;"
    "ft 381/1250 m; yd 1143/1250 m; mi 201168/125 m; mph 1397/3125 m s-1; lb 45359237/100000000 kg;"
    "oz 45359237/1600000000 kg; ton 1000 kg; t 1000 kg; Wh 3600 kg m2 s-2; kWh 3600000 kg m2 s-2; ha 10000 m2;"
    "atm 101325 kg m-1 s-2; mmHg 133322387415/1000000000 kg m-1 s-2; ° 1 °; rad 1 rad; °C 1 °C; °F 1 °F; % 1/100;"
    "$ 1 $; ¢ 1/100 $; € 1 €; £ 1 £; ¥ 1 ¥; unit 1 unit; dB 1 dB; Nm 1 kg m2 s-2; cc 1/1000000 m3; ppm 1/1000000;"
    "rpm 1/60 rev s-1; Å 1/10000000000 m"
)
_NAMES = _table(  # each symbol's other names
    "m meter metre 米; cm 厘米; mm 毫米; dm 分米; km 千米 公里; nm 纳米; μm 微米; g gram 克; kg 千克 公斤;"
    "s second sec 秒; A ampere amp 安; K kelvin; mol mole; L liter litre 升; mL 毫升; N newton 牛 牛顿; Pa pascal 帕;"
    "J joule 焦 焦耳; W watt 瓦; C coulomb; Hz hertz hz; V volt 伏; Ω ohm \u2126 欧 欧姆; F farad; T tesla; H henry;"
    "B byte; cal calorie; min minute 分钟; h hour 小时; day 天; year 年; in inch inches; ft foot feet; yd yard;"
    "mi mile; lb pound; oz ounce;"
    "ton tonne 吨; kWh kwh; ha hectare 公顷; ° degree deg 度; rad radian; °C celsius; °F fahrenheit; % percent;"
    "$ dollar usd; ¢ cent; € euro eur; £ gbp; ¥ yuan rmb cny 元; person people; child children; man men; woman women"
)
_WORDS = {name: symbol for symbol, names in _NAMES.items() for name in names.split()}
_CJK_COUNTED = re.compile(r"[\u4e00-\u9fff]{1,3}")
_CJK_NUMERAL = re.compile(r"[〇零一二三四五六七八九十百千万亿半多几余倍成分负不非或约左右以上下至]")
_PLURAL = re.compile(r"[a-z]{2,}[a-z]s|person|child|man|woman")
# What may follow a number and is not what is counted: it changes the number ("3 dozens", "3 thirds"), or takes it back
_NOT_COUNTED = re.compile(
    r"(?:dozen|hundred|thousand|million|billion|trillion|halve|ten|score|pair|time)s|plus|minus|less|is|was|does|this"
    r"|.*(?:th|ir|ixt|our)s"
)
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
    if not _PLURAL.fullmatch(lower) or _NOT_COUNTED.fullmatch(lower):
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
