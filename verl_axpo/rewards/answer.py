r"""Where the final answer stands in a response (paper, section 2), and one spelling for what is only typography.

decoded response -> final_turn() -> final_answer() -> what a grader sees, or None
"\boxed{\text{x²}}", "（1，2）", "⅓" -> plain() -> "x^{2}", "(1,2)", "\frac{1}{3}"
"""

import re
import unicodedata
from functools import lru_cache

_ANSWER = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)
_BOX = "\\boxed"
_BOX_OR_BRACE = re.compile(r"\\boxed\s*\{|[{}]")
STARTS_IN_THINK = "starts_in_think"  # in `extra_info`: the prompt has opened the thinking of the first turn
MAX_CHARS = 2000  # of an answer; no correct answer is longer, and it bounds the time of every rule

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
    r"\\(?:text|textbf|textit|textrm|texttt|textsf|mathrm|mathit|mathsf|underline|rm|bf|operatorname|mbox|fbox)\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
)
_BOLD = re.compile(r"\\(?:mathbf|boldsymbol|bm)\s*\{([^{}]{2,}|[^a-z{}])\}")  # a small bold letter is a vector
_TWICE = 2  # wrappers inside wrappers
_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<!\\)\\[()\[\]]|\$\$", " "),
        (r"(?<!\\)\$([^$]+)(?<!\\)\$(?!\d)", r"\1"),
        (r"\\(?:left|right|[bB]igg?[lr]?|displaystyle)(?![a-zA-Z])\.?", ""),
        (r"(?<!\w)\*\*([^*]+)\*\*(?!\w)|`([^`]+)`", r"\1\2"),  # in "2**3+5**2" they are powers
        (r"\{,\}", ","),  # a thousands separator in TeX
        (r"(?<!\\)\\[,;: ]|\\q?quad(?![a-zA-Z])", " "),  # not the second half of a row break
        (r"(?<!\\)\\!", ""),
        (r"(?<!\\)\\([%$&#_])", r"\1"),
    )
]


def final_turn(response: str, *, starts_in_think: bool = False) -> str:
    """The text of the last assistant turn after its thinking; nothing where the thinking is never closed.

    Each turn but the first opens with `<think>`. Text of tools stands before that tag, so an `<answer>` in a tool's
    output or in the thinking is not an answer. `starts_in_think`: the prompt has opened the thinking of the first turn.
    """
    _, thinks, turn = response.rpartition("<think>")
    _, closed, after = turn.rpartition("</think>")
    return after if closed or not (thinks or starts_in_think) else ""


def boxes(text: str) -> list[tuple[int, int, int]]:
    r"""Every outermost `\boxed{...}` as (start, start of content, end of content); empty when one never closes."""
    found: list[tuple[int, int, int]] = []
    depth, outer, start, begin = 0, 0, -1, -1
    for mark in _BOX_OR_BRACE.finditer(text, text.find(_BOX) % (len(text) + 1)):
        if mark[0] == "}":
            depth = max(depth - 1, 0)
            if start >= 0 and depth == outer:
                found.append((start, begin, mark.start()))
                start = -1
            continue
        if start < 0 and mark[0] != "{":
            start, begin, outer = mark.start(), mark.end(), depth
        depth += 1
    return [] if start >= 0 else found


def boxed(text: str) -> str | None:
    r"""Content of the last `\boxed{...}`, braces balanced; None when there is none or one never closes."""
    found = boxes(text)
    return text[found[-1][1] : found[-1][2]] if found else None


def opened(text: str) -> str:
    r"""The text with each `\boxed{...}` replaced by its content: "\boxed{1} and \boxed{2}" is "1 and 2"."""
    parts, done = [], 0
    for start, begin, end in boxes(text):
        parts += [text[done:start], text[begin:end]]
        done = end + 1
    return "".join([*parts, text[done:]])


def final_answer(response: str, *, starts_in_think: bool = False) -> str | None:
    r"""The last whole `<answer>` of the final turn, or the last `\boxed{}` inside it; None if there is none."""
    answers = _ANSWER.findall(final_turn(response, starts_in_think=starts_in_think))
    if not answers:
        return None
    inside = boxed(answers[-1])
    return answers[-1] if inside is None else inside


def normalise(text: str) -> str:
    """Case and the amount of white space do not matter."""
    return " ".join(text.split()).casefold()


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
