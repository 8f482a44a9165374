"""Which option an answer names.

    answer, letters, option texts -> letter() -> "B", or None: no unique letter, which is wrong, never random

`letter` is our verdict on every choice question. `vlmevalkit` and `mini_o3` restate how those two evaluations read a
choice; their verdicts are reported beside ours.
"""

import re
import string
from collections.abc import Callable, Sequence
from functools import partial

from verl_axpo.eval.scorers.containment import is_said, plain
from verl_axpo.eval.scorers.wrapping import undress

MAX_CHARACTERS = 1000  # a longer text is no answer; somewhere it names any option
# How DynaMath and V* carry options inside the question: "(A) red (B) blue", or lines "A. red", "A: red".
_INLINE = re.compile(r"\(([A-Z])\)\s*(.*?)(?=\s*\([A-Z]\)|\n|$)", re.DOTALL)
_LINES = re.compile(r"^([A-Z])[.:]\s*(.*)$", re.MULTILINE)
_ALONE = re.compile(r"[(\[{]?\s*([a-z])\s*[)\]}]?\s*[.:,;]?", re.IGNORECASE)
_ANNOUNCED = re.compile(
    r"\b(?:answer|option|choice)(?:\s+is|\s+should\s+be)?\s*[:=]?\s*[(\[*\"']*([A-Za-z])(?![A-Za-z'])", re.IGNORECASE
)
_MARKED = re.compile(r"[(\[]([A-Za-z])[)\]]|(?<![A-Za-z0-9.])([A-Z])(?=[).:](?:\s|$))")
_WORD = re.compile(r"(?<![\w\\])([A-Z])(?![\w'])")
# "A red car": an article, unless the next word joins or explains a choice.
_ARTICLE = re.compile(r"(?<!\w)A(?=\s+(?!(?:or|and|is|because|since|as)\b)[a-z])")


def inline_options(question: str) -> tuple[str, ...]:
    """The texts of options written inside a question; empty unless their letters run from A upwards.

    Example: `inline_options("Larger? Choices: (A) yes (B) no") == ("yes", "no")`
    """
    for pattern in (_INLINE, _LINES):
        found = pattern.findall(question)
        if found and is_lettered([mark for mark, _ in found]):
            return tuple(text.strip() for _, text in found)
    return ()


def is_lettered(options: Sequence[str]) -> bool:
    """Whether the options are literally A, B, C, ...: they are drawn in the image, the text has nothing to add."""
    return list(options) == list(string.ascii_uppercase[: len(options)])


def _named(text: str) -> list[list[str]]:
    """Letters the text names, the plainest way of naming first."""
    alone = _ALONE.fullmatch(text)
    return [
        [alone[1]] if alone else [],
        [mark for mark in _ANNOUNCED.findall(text) if mark.isupper() or text.rstrip(" .)*\"'").endswith(mark)],
        [first or second for first, second in _MARKED.findall(text)],
        _WORD.findall(_ARTICLE.sub("", text)),
    ]


def _where(options: Sequence[str], holds: Callable[[str], bool]) -> list[str]:
    return [mark for mark, option in zip(string.ascii_uppercase, options, strict=False) if holds(option)]


def letter(answer: str, letters: str, options: Sequence[str] = ()) -> str | None:
    r"""The one option an answer names.

    Read in this order, the first way that names anything decides: the answer is a letter, in any dress (`b`, `(B)`,
    `B.`, `\text{B}`); it is an option's text; it announces a letter ("answer is B"); it marks one ("(B) blue",
    "B. blue"); it has a capital letter as a word ("A" before a small word is an article); it says an option's text
    (`is_said`: not as a piece of a larger expression).

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
    alone, *other = _named(text)
    whole = _where(texts, lambda option: plain(option) == plain(text) != "")
    for found in (alone, whole, *other, _where(texts, partial(is_said, text))):
        if distinct := {mark.upper() for mark in found} & set(letters):
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
