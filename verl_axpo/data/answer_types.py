"""Which rule scores an answer, for sources that do not say.

question, answer -> infer() -> "choice" | "math" | "short_text"
                 -> typed() -> the type, and the answer as its rule wants it (a choice's letter)
type, answer     -> with_judge() -> the type, or "judge" for a text that is too long for a rule
"""

import re

from verl_axpo.eval.types import AnswerType

# "A.", "(A)", "A:" or "A)" at the start of a line or after white space or a bracket
_OPTION = re.compile(r"(?:^|[\s(\[])([A-J])\s?[.:)\]]", re.MULTILINE)
_LETTER = re.compile(r"\(?([A-Ja-j])\)?\.?")
# A number, a LaTeX command, or a short expression of single letters and operators: what math-verify can compare
_MATHEMATICAL = re.compile(r"\d|\\[A-Za-z]+|^[A-Za-z]$|[A-Za-z)]\s*[-+*/^=<>]\s*[A-Za-z(]")
_WORDS = re.compile(r"[^\W\d_]{2,}")
MOST_WORDS = 3  # beyond a unit ("12 square centimetres") words make it a text, whatever digits it holds


def letter_of(answer: str) -> str | None:
    """The option's letter in upper case when the answer is nothing else, as in `B`, `(b)` or `B.`."""
    match = _LETTER.fullmatch(answer.strip())
    return match[1].upper() if match else None


def typed(question: str, answer: str) -> tuple[AnswerType, str]:
    """The answer's type and the answer itself, a choice's reduced to its letter."""
    kind, letter = infer(question, answer), letter_of(answer)
    return kind, letter if kind == "choice" and letter else answer.strip()


def infer(question: str, answer: str) -> AnswerType:
    r"""The answer's type.

    A bare letter is a choice when the question lists that letter and another one as options; without options in the
    text (they may be drawn in the image) it stays a short text, which exact match scores the same. A LaTeX command's
    name is not a word.
    """
    letter = letter_of(answer)
    if letter is not None:
        options = set(_OPTION.findall(question))
        if letter in options and len(options) > 1:
            return "choice"
    words = _WORDS.findall(re.sub(r"\\[A-Za-z]+", " ", answer))
    if letter is None and _MATHEMATICAL.search(answer) and len(words) <= MOST_WORDS:
        return "math"
    return "short_text"


def with_judge(kind: AnswerType, answer: str, above_words: int | None) -> AnswerType:
    """`judge` for a short text of more than `above_words` words: neither the same words nor F1 tell whether another
    wording means the same. None leaves every text to the rules."""
    if kind != "short_text" or above_words is None:
        return kind
    return "judge" if len(answer.split()) > above_words else kind
