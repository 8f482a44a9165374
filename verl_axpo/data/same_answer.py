"""Whether two problems ask for the same answer, by the training reward's rules.

Answer, Answer -> same_answer() -> True where either would earn 1 against the other
"""

from dataclasses import dataclass

from verl_axpo.eval.types import AnswerType
from verl_axpo.rewards.choice import is_chosen
from verl_axpo.rewards.math import compare
from verl_axpo.rewards.short_text import matches


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a problem's answer is, and how it is scored."""

    text: str
    kind: AnswerType
    aliases: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def same_answer(first: Answer | None, second: Answer | None) -> bool:
    """Whether the answers are one; an answer that is not known is like any other."""
    if first is None or second is None or first.text == second.text:
        return True
    return _earns(first.text, second) or _earns(second.text, first)


def _earns(text: str, truth: Answer) -> bool:
    if truth.kind == "math":
        return compare(text, truth.text) is True
    if truth.kind == "choice":
        return is_chosen(text, truth.text, truth.options)
    return matches(text, [truth.text, *truth.aliases])
