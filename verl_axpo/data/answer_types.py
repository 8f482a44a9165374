"""How an answer is scored, and whether two answers are the same, by the training reward's own rules.

question, answer -> typed() -> Answer: the type, the text as its rule wants it (a choice's letter), the options
Answer, Answer   -> same_answer() -> True where either would earn 1 against the other
type, answer     -> with_judge() -> the type, or "judge" for a text that is too long for a rule
                 -> rule_of() -> which part of that type's rule it falls under, for the data card
"""

import re
from dataclasses import dataclass

from verl_axpo.eval.types import AnswerType
from verl_axpo.rewards.algebra import is_constant
from verl_axpo.rewards.answer import plain
from verl_axpo.rewards.choice import chosen_letter, is_chosen, options_in
from verl_axpo.rewards.math import compare, read
from verl_axpo.rewards.short_text import as_date, matches, words
from verl_axpo.rewards.units import without_units

_SPEAKS_MATHEMATICS = re.compile(r"[\d\\+*/^=<>≤≥√π∞]|[a-z)]\s*-|-\s*[a-z(]")
_FORMULA = re.compile(r"[\\^*]|[a-z]\s*[-+/=]|[-+/=(]\s*[a-z]")  # "2^3*5" may stay unfinished; "2-1" is a score
# "3:30 PM", "F-16", "1990s", "3D"
_TIME_OR_CODE = re.compile(
    r"\d{1,2}:\d\d(?::\d\d)?(?:\s?[APap]\.?[Mm])?|[A-Z]+\s?-?\d+[A-Z]?|\d{4}s|\d+[A-Z]+|\d+(?:st|nd|rd|th)|[A-Z]{2,}/[A-Z]{2,}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A problem's answer and how it is scored; `options` only where the type is `choice`.

    Example: `Answer(kind="choice", text="B", options=("red", "green"))`
    """

    kind: AnswerType
    text: str
    aliases: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def typed(question: str, answer: str) -> Answer:
    r"""The answer's type.

    An answer that names one of the question's options, by letter or text, is a choice. Without options in the text
    (they may be drawn in the image) a bare letter stays a short text. Mathematics is what the reward's rules can read
    and finish: "2-1" and "2021-03-05" would be subtractions, and are texts.
    """
    options = options_in(question)
    letter = chosen_letter(answer, options) if options else None
    if letter is not None:
        return Answer(kind="choice", text=letter, options=options)
    return Answer(kind="math" if _is_mathematics(answer) else "short_text", text=answer.strip())


def same_answer(first: Answer | None, second: Answer | None) -> bool:
    """Whether the answers are the same; an unknown answer is like any other."""
    if first is None or second is None or first.text == second.text:
        return True
    return _earns(first.text, second) or _earns(second.text, first)


def _earns(text: str, truth: Answer) -> bool:
    if truth.kind == "math":
        return compare(text, truth.text) is True
    if truth.kind == "choice":
        return is_chosen(text, truth.text, truth.options)
    return matches(text, [truth.text, *truth.aliases])


def with_judge(kind: AnswerType, answer: str, above_words: int | None) -> AnswerType:
    """`judge` for a short text of more than `above_words` words: the same words do not tell whether another wording
    means the same. None leaves every text to the rules."""
    if kind != "short_text" or above_words is None:
        return kind
    return "judge" if len(answer.split()) > above_words else kind


def rule_of(kind: AnswerType, answer: str) -> str:
    """The type, and for mathematics and texts what the rule takes the answer for."""
    if kind == "short_text":
        return "short_text, a date" if as_date(words(answer)) else "short_text, words"
    items = read(answer) if kind == "math" else None
    if kind != "math" or items is None:
        return kind
    (first, *others) = items
    is_value = not others and not first.form and is_constant(without_units(first.sides[0]))
    return "math, a value" if is_value else "math, an expression or several"


def _is_mathematics(answer: str) -> bool:
    text = plain(answer)
    if not _SPEAKS_MATHEMATICS.search(text) or _TIME_OR_CODE.fullmatch(text):
        return False
    items = read(answer)
    return items is not None and (_FORMULA.search(text) is not None or all(item.is_finished for item in items))
