"""Graders that several benchmarks share.

choice_grade      a letter out of known options: V*, HR-Bench
short_text_grade  exact match over the accepted answers, then the judge: VisualProbe, HR-MMSearch, MMSearch
"""

import string
from collections.abc import Mapping, Sequence

from verl_axpo.eval.benchmarks._base import BenchmarkError
from verl_axpo.eval.scorers import choice, text
from verl_axpo.eval.scorers.judging import Judge, missing, rule_then_judge
from verl_axpo.eval.types import Question, Score


def checked_letter(truth: str, options: Sequence[str]) -> str:
    """The label of a choice question.

    Raises:
        BenchmarkError: it is none of the options' letters.
    """
    letters = list(string.ascii_uppercase[: len(options)])
    if truth not in letters:
        raise BenchmarkError(f"the right answer is {truth!r}, the options are {letters}")
    return truth


def by_rule(correct: bool, answer: str, truth: str, values: Mapping[str, bool]) -> Score:
    """The score of a benchmark that only has rules; `values` are its conventions' verdicts by name."""
    reason = f"{answer!r} {'=' if correct else 'is not'} {truth!r}"
    numbers = {name: float(verdict) for name, verdict in values.items()}
    return Score(correct=correct, by="rule", reason=reason, values=numbers)


async def choice_grade(question: Question, answer: str | None, judge: Judge | None) -> Score:
    """Our reading of the letter, with VLMEvalKit's and Mini-o3's. No judge: an unreadable choice is wrong."""
    if answer is None:
        return missing("vlmevalkit", "mini_o3")
    letters = string.ascii_uppercase[: len(question.options)]
    truth = question.ground_truth
    found = choice.letter(answer, letters, question.options)
    values = {
        "vlmevalkit": choice.vlmevalkit(answer, question.options) == truth,
        "mini_o3": choice.mini_o3(answer, truth),
    }
    return by_rule(found == truth, f"{answer} -> {found}", truth, values)


def accepted(question: Question) -> Sequence[str]:
    """The right answer and its aliases."""
    return (question.ground_truth, *question.metadata.get("aliases", ()))


def reference(question: Question) -> str:
    """The right answer as a judge is told it."""
    aliases = question.metadata.get("aliases", ())
    return question.ground_truth + (f" (also accepted: {'; '.join(aliases)})" if aliases else "")


async def short_text_grade(question: Question, answer: str | None, judge: Judge | None) -> Score:
    """Normalised exact match over the accepted answers, else the judge.

    `f1` is against the right answer alone, `f1_aliases` the best over the aliases.
    """
    if answer is None:
        return missing("exact_match", "f1", "f1_aliases")
    return await rule_then_judge(
        question=str(question.metadata["question"]),
        reference=reference(question),
        answer=answer,
        matches=lambda: text.exact_match(answer, accepted(question)),
        judge=judge,
        values={
            "f1": text.token_f1(answer, question.ground_truth),
            "f1_aliases": text.best_f1(answer, accepted(question)),
        },
    )
