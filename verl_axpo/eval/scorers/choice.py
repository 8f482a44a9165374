"""Which option an answer names.

    answer, letters, option texts -> letter() -> "B", or None: no unique letter, which is wrong, never random

`letter` is our verdict on every choice question. `vlmevalkit` and `mini_o3` restate how those two evaluations read a
choice; their verdicts are reported next to ours.
"""

import re
import string
from collections.abc import Callable, Sequence
from functools import partial

from verl_axpo.eval.scorers.sentences import REACH, folded, is_denied, is_said
from verl_axpo.eval.scorers.tidying import undress

MAX_CHARACTERS = 1000  # a longer text is no answer; somewhere it names any option
_ALONE = re.compile(r"[(\[{]?\s*([a-z])\s*[)\]}]?\s*[.:,;]?", re.IGNORECASE)
_OPEN, _CLOSE = r"[(\[{*\"'$]*", r"[)\]}*\"'$]*"
# "A red car": an article, unless the next word joins, judges or explains a choice.
_ARTICLE = (
    r"(?!\s+(?!(?:or|and|nor|to|but|not|is|isn|was|are|can|would|because|since|as|wrong|incorrect|false)\b)[a-z])"
)
_LETTER = rf"(?<![\w\\'])(?:[B-Zb-z]|[Aa]{_ARTICLE})(?![\w'])"
_JOIN = r"\s*(?:,?\s*\b(?:or|and|nor|to|through)\b|[,;/&+\-\u2013])\s*"
# Letters that are named in one breath: "B", "(A), (B), and (C)", "B or c"
_GROUP = re.compile(rf"{_OPEN}{_LETTER}{_CLOSE}(?:{_JOIN}{_OPEN}{_LETTER}{_CLOSE})*")
_IS = (
    r"(?:\s+(?:is|are|(?:should|would|must|could)\s+be))?\s*[:=]?\s*"
    r"(?:(?:either|both|probably|option|choice|letter)\s+)?"
)
_ANSWER = re.compile(rf"\banswers?{_IS}{_OPEN}$", re.IGNORECASE)
_OPTION = re.compile(rf"\b(?:option|choice)s?{_IS}{_OPEN}$", re.IGNORECASE)
_BRACKETED = re.compile(r"[(\[][A-Za-z][)\]]")
_LABEL = re.compile(r"[).:](?:\s|$)")


def is_lettered(options: Sequence[str]) -> bool:
    """Whether the options are literally A, B, C, ...: they are drawn in the image, the text has nothing to add."""
    return list(options) == list(string.ascii_uppercase[: len(options)])


def _named(text: str) -> list[set[str]]:
    """The letters the text names and does not deny, the plainest way of naming first."""
    ways = answers, options, marked, words = [set[str]() for _ in range(4)]
    for group in _GROUP.finditer(text):
        before, after = text[max(0, group.start() - REACH) : group.start()], text[group.end() :]
        letters = set(re.findall(_LETTER, group[0]))
        is_answer, is_option = bool(_ANSWER.search(before)), bool(_OPTION.search(before))
        is_bracketed = _BRACKETED.match(group[0]) is not None
        # A small letter alone is a word or a variable, but in brackets, or where it closes an announcement
        is_closing = (is_answer or is_option) and not after.strip(" .")
        is_naming = is_bracketed or is_closing or any(map(str.isupper, letters))
        if is_denied(before, after) or not is_naming:
            continue
        is_marked = is_bracketed or _LABEL.match(after) is not None or group[0].endswith(")")
        for way, holds in ((answers, is_answer), (options, is_option), (marked, is_marked), (words, True)):
            way.update(mark.upper() for mark in letters if holds)
    return ways


def _where(options: Sequence[str], holds: Callable[[str], bool]) -> set[str]:
    return {mark for mark, option in zip(string.ascii_uppercase, options, strict=False) if holds(option)}


def letter(answer: str, letters: str, options: Sequence[str] = ()) -> str | None:
    r"""The one option an answer names.

    Read in this order, the first way that names anything decides: the answer is a letter, in any dress (`b`, `(B)`,
    `B.`, `\text{B}`); it is an option's text; it announces a letter ("answer is B", then "option B"); it marks one
    ("(B) blue", "B. blue"); it has a capital letter as a word ("A" before a small word is an article); it says an
    option's text (`is_said`: not as a piece of a larger expression). Letters named in one breath ("A or B") count
    together; what is denied ("not A", "all except E") is not named.

    Args:
        answer: the final answer, already extracted from the response.
        letters: the valid letters, as "ABCD".
        options: the options' texts in the order of the letters; empty when they are not known.

    Returns:
        the letter, or None when the answer names no option or more than one.
    """
    text, texts = undress(answer), () if is_lettered(options) else options
    if len(text) > MAX_CHARACTERS:
        return None
    alone = {found[1].upper()} if (found := _ALONE.fullmatch(text)) else set()
    whole = _where(texts, lambda option: folded(option) == folded(text) != "")
    for named in (alone, whole, *_named(text), _where(texts, partial(is_said, text))):
        if distinct := named & set(letters):
            return distinct.pop() if len(distinct) == 1 else None
    return None


_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_VLMEVALKIT_SPACES = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_VLMEVALKIT_VERBOSE = re.compile(r"(?:correct\s+)?answer\s+is\s+\**([ABCD])\**", re.IGNORECASE)
_VLMEVALKIT_TAIL = 5  # words from the end in which the letter must stand


def vlmevalkit(answer: str, options: Sequence[str]) -> str | None:
    """How VLMEvalKit reads a choice without a judge (`can_infer`): a letter, "Z" for a refusal, or None.

    A letter counts when it is the only one among the answer's words and among the last five of them, or after
    "answer is"; else the only option whose text is contained, in an answer at most twice as long as all options.
    """
    if any(refusal in answer for refusal in _REFUSALS):
        return "Z"
    letters = string.ascii_uppercase[: len(options)]
    words = answer.translate(_VLMEVALKIT_SPACES).split()
    found = [mark for mark in letters if mark in words]
    if len(found) == 1 and words.index(found[0]) > len(words) - _VLMEVALKIT_TAIL:
        return found[0]
    if not found and "Z" in words:
        return "Z"
    verbose = _VLMEVALKIT_VERBOSE.search(answer)
    if verbose and verbose[1].upper() in letters:
        return verbose[1].upper()
    if len(answer) > 2 * sum(map(len, options)):
        return None
    inside = [mark for mark, text in zip(letters, options, strict=True) if text.lower() in answer.lower()]
    return inside[0] if len(inside) == 1 else None


def mini_o3(answer: str, truth: str) -> bool:
    """Mini-o3's reward for choices: the letter itself, or an answer that opens with `(B)` or `B.`"""
    return answer.strip() == truth or answer.startswith((f"({truth})", f"{truth}."))
