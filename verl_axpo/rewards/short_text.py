# ruff: noqa: RUF001  # signs that look like letters are named here
"""Short text: a name, a date, a few words, with aliases.

    answer, truths -> words() -> the same words in the same order as one of them, or the same date -> correct

There is no near match: "left" for "right", a lost "not" or another year changes one word of many and everything else.
"""

import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime

from verl_axpo.rewards.answer import MAX_CHARS, plain

_ARTICLE = re.compile(r"^(?:the|an|a(?!\s+(?:positive|negative|plus|minus|major|minor|flat|sharp)\b))\s+(?=\w\w)", re.I)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_APOSTROPHE = re.compile(r"(?<=[^\W\d_])'(?=[^\W\d_])")  # in "O'Brien"; 5'6" are two numbers
_PRIME = re.compile(r"(?<=\d)(?:''|['\"])(?![^\W\d_])")  # 5' are feet or minutes, where it closes no quotation
_PRIMES = {"'": "\u2032", '"': "\u2033", "''": "\u2033"}
_EMPHASIS = re.compile(r"(?<![\w*])\*([^*\s](?:[^*]*[^*\s])?)\*(?![\w*])|^\*\s+")  # any other star speaks: "A*"
_DEGREE = re.compile(r"\^\s*\{?\s*\\circ\s*\}?")
_NAMES = (  # of each sign: the word that it counts as, then its other spellings
    r"degree °; angle ∠; triangle △; parallel ∥; perp ⊥; to → \rightarrow; times ×; div ÷; pm ±; le ≤ \leq \leqslant;"
    r"ge ≥ \geq \geqslant; ne ≠ \neq; approx ≈; sim ∼; cong ≅; infty ∞; cup ∪; cap ∩; in ∈; subset ⊂; alpha α; beta β;"
    r"gamma γ; delta δ; epsilon ε \varepsilon; theta θ; lambda λ; mu μ; pi π; rho ρ; sigma σ; tau τ; phi φ \varphi;"
    r"psi ψ; omega ω; Gamma Γ; Delta Δ; Sigma Σ; Phi Φ; Psi Ψ; Omega Ω"
)
_WORDS = {name: word for word, *names in map(str.split, _NAMES.split(";")) for name in (f"\\{word}", *names)}
_SIGN = re.compile("|".join(rf"{re.escape(name)}(?![a-zA-Z])" if name[0] == "\\" else name for name in _WORDS))
_EXCLAMATION = re.compile(r"(?<!\d)!")  # 5! is a number of its own
_TOKEN = re.compile(  # a minus sign before a number or after a letter ("A-") speaks, a hyphen does not
    r"\d+(?:\.\d+)?|(?<![\w.])\.\d+|[^\W\d_]+|(?<![\w)])-(?=[\w.])|(?:(?<=[^\W\d_])|(?<=[^\W\d_]\d))-(?!\w)|[^\w\s-]"
)
_SPEAKING = (
    "#%\u2030\u2031&@/!-*\u2032\u2033"  # of all punctuation; mathematical signs, currencies and pictures speak too
)
# The other orders leave open what is the month
_DATES = ("%B %d %Y", "%d %B %Y", "%b %d %Y", "%d %b %Y", "%Y %m %d", "%Y %B %d")
_AROUND_DATES = frozenset(("st", "nd", "rd", "th", "of", "/", "年", "月", "日"))


def matches(answer: str, truths: Sequence[str]) -> bool:
    """Whether `answer` has the words, or is the date, of one of `truths`; an answer without a word matches nothing."""
    ours = words(answer)
    return bool(ours) and any(_same(ours, words(truth)) and _asks(answer) <= _asks(truth) for truth in truths)


def _asks(text: str) -> bool:
    """Whether a question mark ends the text: "blue?" takes the answer back."""
    return plain(text).rstrip("\"'* ").endswith("?")


def words(text: str) -> list[str]:
    """Words, numbers and signs that speak, in lower case, without an article in front."""
    if len(text) > MAX_CHARS:
        return []
    plainer = _SIGN.sub(_word, _DEGREE.sub("°", plain(text)))
    plainer = _THOUSANDS.sub("", _EMPHASIS.sub(r"\1", plainer))
    plainer = _PRIME.sub(lambda mark: _prime(plainer[: mark.start()], mark[0]), plainer)
    plainer = _EXCLAMATION.sub("", _APOSTROPHE.sub("", plainer))
    return [token for token in _TOKEN.findall(_ARTICLE.sub("", plainer).casefold()) if _speaks(token)]


def _word(sign: re.Match[str]) -> str:
    """The word that a sign counts as, apart from letters next to it."""
    before, after = sign.string[: sign.start()][-1:], sign.string[sign.end() :][:1]
    return f"{' ' * before.isalnum()}{_WORDS[sign[0]]}{' ' * after.isalnum()}"


def _prime(before: str, mark: str) -> str:
    """The sign as it is where it may close a quotation, else the prime that it stands for."""
    return mark if before.count(mark) % 2 else _PRIMES[mark]


def as_date(tokens: Sequence[str]) -> date | None:
    """The day that these words name, where nothing about it is open."""
    parts = [token for token in tokens if token not in _AROUND_DATES]
    if len(parts) != len(("day", "month", "year")):
        return None
    for form in _DATES:
        with suppress(ValueError):
            return datetime.strptime(" ".join(parts), form).date()
    return None


def _same(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    if list(ours) == list(theirs):
        return True
    has_initials = any(len(token) == 1 and token.isalpha() for token in (*ours, *theirs))
    if has_initials and _glued(ours) == _glued(theirs):
        return True
    day = as_date(theirs)
    return day is not None and day == as_date(ours)


def _glued(tokens: Sequence[str]) -> str:
    """Between letters spaces do not count: "USA" is "U.S.A.", "AC" is "A, C"."""
    return "".join(token + " " if token[-1].isdigit() else token for token in tokens)


def _speaks(token: str) -> bool:
    if token[0].isalnum() or (token[0] == "." and token != "."):
        return True
    return token in _SPEAKING or (unicodedata.category(token[0])[0] == "S" and token != "`")
