r"""Multiple choice: "B", "(B)", "b) red", "**B**", "\text{B}", "option B", "the answer is B", "red" -> the letter B.

    answer, options -> chosen_letter() -> one letter, or None -> == the truth's letter

A letter counts only when it is the only one that the answer names; no letter, or two, is wrong and never a guess.
"""

import re
from collections.abc import Sequence

from verl_axpo.rewards.answer import normalise, unboxed

LETTERS = "ABCDEFGHIJ"  # MathVision and ViRL39K have up to ten options
MAX_CHARS = 2000  # of an answer; no option is longer

_TEX = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|operatorname|mbox)\s*\{([^{}]*)\}")
_DRESS = re.compile(r"[*_`$\"'“”\u2018\u2019]|\\[()\[\]]")  # emphasis, quotes, math delimiters
_PREFIX = re.compile(
    r"^(?:(?:so|thus|therefore)\b,?\s*)?(?:the\s+)?(?:(?:correct|right|final|best)\s+)?"
    r"(?:answer|option|choice)\b(?:\s+(?:is|would be)\b|\s*[:=])?\s*(?:(?:option|choice)\b\s*)?:?\s*",
    re.IGNORECASE,
)
_LETTER = rf"[{LETTERS}{LETTERS.lower()}]"
_LABEL = re.compile(rf"^(?:\(\s*({_LETTER})\s*\)|\[\s*({_LETTER})\s*\]|({_LETTER})\s*(?=$|[).:,\]]|-\s))[).:,\]]*\s*")
_CAPITAL = re.compile(
    rf"\(\s*([{LETTERS}])\s*\)|\b([B-H{LETTERS[9:]}])\b"
    r"|\b([AI])\b(?!\s+(?!(?:or|and|nor|is|but|because)\b)[a-z])"  # "A cat", "I choose": a word, not a letter
)


def is_chosen(answer: str, truth: str, options: Sequence[str] = ()) -> bool:
    """Whether `answer` chooses the option that `truth` (a letter or an option's text) names.

    Raises:
        ValueError: the truth names no option, which is the data's fault.
    """
    wanted = chosen_letter(truth, options)
    if wanted is None:
        raise ValueError(
            f"choice: got the ground truth {truth!r} with {len(options)} options, expected one letter of {LETTERS} or "
            "the text of an option; correct the row, or give it another answer_type"
        )
    return chosen_letter(answer, options) == wanted


def chosen_letter(answer: str, options: Sequence[str] = ()) -> str | None:
    """The one letter that `answer` names, or the letter of the option whose text it is; None otherwise.

    A label in front decides ("B", "(B)", "b) red"), unless the text behind it is that of another option. Without one,
    the option's text decides, then a single capital letter in a sentence ("I choose B").
    """
    if len(answer) > MAX_CHARS:
        return None
    text = _undressed(answer)
    if by_text := _letter_of_text(text, options):
        return by_text
    label = _LABEL.match(text)
    if label is None:
        return _only_letter(text, options)
    letter = next(group for group in label.groups() if group).upper()
    rest = text[label.end() :]
    named = {letter, *_capitals(rest), *filter(None, [_letter_of_text(rest, options)])}
    return letter if named == {letter} and _exists(letter, options) else None


def _undressed(answer: str) -> str:
    text = _TEX.sub(r"\1", unboxed(answer).strip())
    text = _DRESS.sub("", text).strip().rstrip(".").strip()
    return _PREFIX.sub("", text, count=1).strip() or text


def _letter_of_text(text: str, options: Sequence[str]) -> str | None:
    """The letter of the one option whose text this is; options that are themselves letters are drawn in the image."""
    wanted = normalise(text).rstrip(".")
    matches = [
        letter
        for letter, option in zip(LETTERS, options, strict=False)
        if option.strip().upper() not in tuple(LETTERS) and normalise(_undressed(option)).rstrip(".") == wanted
    ]
    return matches[0] if len(matches) == 1 else None


def _only_letter(text: str, options: Sequence[str]) -> str | None:
    named = _capitals(text)
    return next(iter(named)) if len(named) == 1 and _exists(next(iter(named)), options) else None


def _capitals(text: str) -> set[str]:
    """Capital letters on their own, in brackets or not; `A` or `I` before a word of a sentence is a word itself."""
    return {match[1] or match[2] or match[3] for match in _CAPITAL.finditer(text)}


def _exists(letter: str, options: Sequence[str]) -> bool:
    return not options or letter in LETTERS[: len(options)]
