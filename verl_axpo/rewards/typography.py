r"""One spelling for what is only typography, before any rule looks at an answer.

"\boxed{\text{x²}}", "（1，2）", "⅓" -> plain() -> "x^{2}", "(1,2)", "\frac{1}{3}"
"""

import re
import unicodedata
from functools import lru_cache

from verl_axpo.rewards.answer import opened

MAX_CHARS = 2000  # of an answer; no true answer is longer, and every rule's time is bounded by it

_RAISED, _LOWERED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n"), str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SIGNS = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2012\N{EN DASH}\u2014\N{MINUS SIGN}\ufe63", "-"),
        **dict.fromkeys("\u2018\u2019\u02bc\u2032\u00b4", "'"),
        **dict.fromkeys("\u201c\u201d\u2033", '"'),
        "\u2044": "/",
        "\u2236": ":",
        "\u3001": ",",
        "\u00b5": "\u03bc",
    }
)
_WRAPPER = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathit|underline|rm|bf|operatorname|mbox)\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
)
_BOLD = re.compile(r"\\(?:mathbf|boldsymbol|bm)\s*\{([^{}]{2,}|[^a-z{}])\}")  # a small bold letter is a vector
_TWICE = 2  # wrappers inside wrappers
_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<!\\)\\[()\[\]]|\$\$", " "),
        (r"(?<!\\)\$([^$]+)(?<!\\)\$(?!\d)", r"\1"),
        (r"\\(?:left|right|[bB]igg?[lr]?|displaystyle)(?![a-zA-Z])\.?", ""),
        (r"\*\*([^*]+)\*\*|`([^`]+)`", r"\1\2"),
        (r"\{,\}", ","),  # a thousands separator as TeX wants it
        (r"(?<!\\)\\[,;: ]|\\q?quad(?![a-zA-Z])", " "),  # not the second half of a row break
        (r"(?<!\\)\\!", ""),
        (r"(?<!\\)\\([%$&#_])", r"\1"),
    )
]


@lru_cache(maxsize=256)  # an answer meets many options and aliases
def plain(text: str) -> str:
    """The text without boxes, math delimiters, TeX spacing and font commands; Unicode signs in their common form."""
    text = re.sub(r"[⁰¹²³⁴-⁹⁺⁻ⁿ]+", lambda run: f"^{{{run[0].translate(_RAISED)}}}", opened(text))
    text = re.sub(r"[₀-₉]+", lambda run: f"_{{{run[0].translate(_LOWERED)}}}", text)
    text = re.sub(r"[¼-¾⅐-⅞]", lambda sign: _fraction(sign[0]), text)
    text = re.sub(r"([①-⑳])", r" \1 ", text)  # ①③ is not 13
    text = unicodedata.normalize("NFKC", text).translate(_SIGNS)
    for _ in range(_TWICE):
        text = _BOLD.sub(r" \1 ", _WRAPPER.sub(r" \1 ", text))
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return re.sub(r"(?<!\.)[.。]$", "", text.strip()).strip()


def _fraction(sign: str) -> str:
    above, below = unicodedata.normalize("NFKC", sign).split("\u2044")
    return f"\\frac{{{above}}}{{{below}}}"
