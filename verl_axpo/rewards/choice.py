r"""Multiple choice: "B", "(B)", "**B**", "\text{B}", "the answer is B", "b) red", "red" -> the letter B.

    answer, options -> chosen_letter() -> one letter, or None -> == the truth's letter
    question        -> options_in() -> the options that it lists

An answer is a letter, a letter with its own option, or an option's text. Everything else is wrong and never a guess.
"""

import re
import unicodedata
from collections.abc import Sequence

from verl_axpo.rewards import short_text
from verl_axpo.rewards.answer import MAX_CHARS, plain
from verl_axpo.rewards.math import compare

LETTERS = "ABCDEFGHIJ"  # MathVision and ViRL39K have up to ten options

_DRESS = '*_`$" \n'  # emphasis, quotes, math delimiters around an answer
_LETTER = f"[{LETTERS}{LETTERS.lower()}]"
_PREFIX = re.compile(
    r"^(?:(?:so|thus|therefore|hence)\b,?\s*)?"
    r"(?:(?:i\s+(?:would\s+)?)?(?:choose|pick|select)\s+|(?:正确)?答案[是为选]?\s*:?\s*|选\s*"
    r"|(?:(?:the|my)\s+)?(?:(?:correct|right|final|best)\s+)?(?:answer|option|choice)\b"
    r"(?:\s+(?:is|would be)\b|\s*[:=])?\s*)(?:option|choice)?\s*:?\s*(?=\W?\w)",
    re.IGNORECASE,
)
_LABEL = re.compile(
    rf"^(?:\(\s*({_LETTER})\s*\)|\[\s*({_LETTER})\s*\]|({_LETTER})(?![\w'+#]))(?P<mark>\s*[).:\]]+|\s+-(?=\s))?\s*"
)
_ANOTHER = re.compile(rf"^\W*{_LETTER}\W*$|(?:^|[\s(]){_LETTER}\s?[.):\]]|[,;/&|+]\s*{_LETTER}\W*$", re.ASCII)
_REASON = re.compile(r"^(?:because|since)\b", re.IGNORECASE)
_HEDGE = re.compile(
    r"not?|nor|neither|never|or|either|wrong|incorrect|false|except|but|isnt|arent|cannot|maybe|probably|possibly|perhaps|"
    r"unsure|instead|rather"
)
# How questions mark their options; each letter stands at the start or after white space
_MARKS = (
    r"\(\s*({})\s*\)",
    r"\[\s*({})\s*\]",
    r"({})\s*[.):](?=\s|$|[^\w.:])",
    r"({})\s*[.)](?=\S)",
    r"({})\s*[,、](?=\s)",
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


# After the last option, on its line
_INSTRUCTION = re.compile(
    r"(?<=[.;!?])\s+(?=(?:please|answer|choose|select|pick|give|write|reply)\b.*\b(?:letter|option|choice|answer|one)s?\b)",
    re.IGNORECASE,
)


def chosen_letter(answer: str, options: Sequence[str] = ()) -> str | None:
    """The one letter that `answer` names, or the letter of the option whose text it is; None otherwise."""
    if len(answer) > MAX_CHARS:
        return None
    text = _undressed(answer)
    letter = _letter_of_text(text, options)
    if letter is None:
        text = _PREFIX.sub("", text, count=1)
        letter = _letter_of_text(text, options) or _labelled(text, options)
    return letter if letter in tuple(LETTERS[: len(options) or None]) else None


def options_in(question: str) -> tuple[str, ...]:
    """The texts of the options that a question lists, in order; the letters where they are drawn; empty without any.

    Marks are "(A)", "A.", "A)", "A:", "[A]" in either case, in full-width or bold letters, from A upwards.
    """
    text = unicodedata.normalize("NFKC", question).replace("、", ", ").replace("*", "")
    for mark in _MARKS:
        for letters in (LETTERS, LETTERS.lower()):
            if found := _listed(text, mark.format(f"[{letters}]"), letters):
                return found
    return ()


def _listed(text: str, mark: str, letters: str) -> tuple[str, ...]:
    """The last run of marks A, B, ... and what stands after each; a line ends the last one."""
    marks = list(re.finditer(r"(?<![^\s,;:?。])" + mark, text))
    begin = max((at for at, found in enumerate(marks) if found[1] == letters[0]), default=len(marks))
    run = [found for found, letter in zip(marks[begin:], letters, strict=False) if found[1] == letter]
    if len(run) < 2 or [found[1] for found in run] != list(letters[: len(run)]):
        return ()
    ends = [*(found.start() for found in run[1:]), len(text)]
    texts = [text[found.end() : end].strip() for found, end in zip(run, ends, strict=True)]
    texts[-1] = _INSTRUCTION.split(texts[-1].partition("\n")[0])[0].strip()
    texts = [re.sub(r"[;,\s]+$|\s[-•]$", "", option) for option in texts]
    if any(option in ("or", "and") for option in texts):  # "Is (A) or (B) larger?"
        return ()
    return tuple(texts) if all(texts) else tuple(LETTERS[: len(texts)])


def _undressed(answer: str) -> str:
    text = plain(answer).strip(_DRESS)
    while len(text) > 2 and text[0] == text[-1] == "'":
        text = text[1:-1].strip()
    return text.rstrip(".").strip()


def _letter_of_text(text: str, options: Sequence[str]) -> str | None:
    """The letter of the one option whose text this is; options that are themselves letters are drawn in the image."""
    matches = [
        letter
        for letter, option in zip(LETTERS, options, strict=False)
        if option.strip().upper() not in tuple(LETTERS) and _is_text_of(text, option)
    ]
    return matches[0] if len(matches) == 1 else None


def _is_text_of(text: str, option: str) -> bool:
    if short_text.matches(text, [option]):
        return True
    return re.search(r"[\\\d]", text) is not None and compare(text, option) is True


def _labelled(text: str, options: Sequence[str]) -> str | None:
    """The letter in front, if nothing follows, or its own option, or (without known options) a harmless text."""
    label = _LABEL.match(text)
    if label is None:
        return None
    letter = next(group for group in label.groups()[:3] if group).upper()
    rest = text[label.end() :].lstrip(",-").strip()
    own = options[LETTERS.index(letter)] if LETTERS.index(letter) < len(options) else ""
    if not text[label.end() :] or (own and _is_text_of(rest, own)):
        return letter
    is_reason = _REASON.match(rest) is not None
    is_bracketed = text[0] in "(["
    is_free = is_reason or (not own and bool(label["mark"] or is_bracketed) and text[label.end()] not in ",-/")
    return letter if is_free and _is_harmless(rest) else None


def _is_harmless(rest: str) -> bool:
    """Whether the text names no other option and denies nothing."""
    if rest.endswith("?"):
        return False
    names_another = _ANOTHER.search(rest) is not None or (_REASON.match(rest) and re.search(rf"\b[{LETTERS}]\b", rest))
    return not names_another and not any(map(_HEDGE.fullmatch, short_text.words(rest)))
