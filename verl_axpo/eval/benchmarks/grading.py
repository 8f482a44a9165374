"""How answers to the nine benchmarks are graded: question, answer, judge -> Score.

    choice_grade      a letter out of known options: V*, HR-Bench
    short_text_grade  exact match over the accepted answers, then the judge: VisualProbe, HR-MMSearch, MMSearch
    the others        one benchmark each

`Score.correct` is our reading; `Score.values` has the benchmark's other conventions by name, each in [0, 1].
"""

import string
from collections.abc import Mapping, Sequence
from dataclasses import replace

from verl_axpo.eval.scorers import choice, dynamath, mathematics, text
from verl_axpo.eval.scorers.judging import Judge, missing, rule_then_judge
from verl_axpo.eval.scorers.tidying import without_unit
from verl_axpo.eval.types import Question, Score

_DYNAMATH_LETTERS = string.ascii_uppercase[:6]  # two of its questions have six options, none has more


def by_rule(correct: bool, answer: str, truth: str, values: Mapping[str, bool]) -> Score:
    """The score of a benchmark that only has rules; `values` are its conventions' verdicts by name."""
    reason = f"{answer!r} {'=' if correct else 'is not'} {truth!r}"
    numbers = {name: float(verdict) for name, verdict in values.items()}
    return Score(correct=correct, by="rule", reason=reason, values=numbers)


async def choice_grade(question: Question, answer: str | None, judge: Judge | None) -> Score:
    """Our reading of the letter, with VLMEvalKit's and Mini-o3's. No judge: an unreadable choice is wrong."""
    if answer is None:
        return missing("vlmevalkit", "mini_o3")
    letters, truth = string.ascii_uppercase[: len(question.options)], question.ground_truth
    letter = choice.letter(answer, letters, question.options)
    values = {
        "vlmevalkit": choice.vlmevalkit(answer, question.options) == truth,
        "mini_o3": choice.mini_o3(answer, truth),
    }
    return by_rule(letter == truth, f"{answer} -> {letter}", truth, values)


def accepted(question: Question) -> Sequence[str]:
    """The right answer and its aliases."""
    return (question.ground_truth, *question.metadata.get("aliases", ()))


async def short_text_grade(question: Question, answer: str | None, judge: Judge | None) -> Score:
    """Normalised exact match over the accepted answers, else the judge.

    `f1` is against the right answer alone, `f1_aliases` the best over the aliases.
    """
    if answer is None:
        return missing("exact_match", "f1", "f1_aliases")
    truth, *aliases = accepted(question)
    return await rule_then_judge(
        question=str(question.metadata["question"]),
        reference=truth + (f" (also accepted: {'; '.join(aliases)})" if aliases else ""),
        answer=answer,
        matches=lambda: text.exact_match(answer, accepted(question)),
        judge=judge,
        values={"f1": text.token_f1(answer, truth), "f1_aliases": text.best_f1(answer, accepted(question))},
    )


async def mmsearch_grade(question: Question, answer: str | None, judge: Judge | None) -> Score:
    """As every short text; `official` is the benchmark's own number, the best F1 since September 2024."""
    score = await short_text_grade(question, answer, judge)
    return replace(score, values={**score.values, "official": score.values["f1_aliases"]})


async def math_vr_grade(question: Question, answer: str | None, judge: Judge | None) -> Score:
    """Answer correctness: right when every part is, no credit for some of them."""
    if answer is None:
        return missing("exact_match")
    count = int(question.metadata["parts"])
    return await rule_then_judge(
        question=str(question.metadata["question"]),
        reference=question.ground_truth,
        answer=answer,
        matches=lambda: mathematics.all_equal(answer, question.ground_truth, count),
        judge=judge,
        values={},
    )


async def dynamath_grade(question: Question, answer: str | None, judge: Judge | None) -> Score:
    """Numbers by value, text as officially, a choice by its unique letter."""
    if answer is None:
        return missing("official", "vlmevalkit")
    truth, answer_type = question.ground_truth, str(question.metadata["answer_type"])
    if question.answer_type == "choice":
        correct = choice.letter(answer, _DYNAMATH_LETTERS, question.options) == truth
    else:
        correct = dynamath.lenient(answer, truth, answer_type)
    values = {
        "official": dynamath.official(answer, truth, answer_type),
        "vlmevalkit": dynamath.vlmevalkit(answer, truth, answer_type),
    }
    return by_rule(correct, answer, truth, values)


async def mathvision_grade(question: Question, answer: str | None, judge: Judge | None) -> Score:
    """A choice by our letter, or by being equal to the right option's text; a free answer by being equal to the truth.

    MATH-V's own comparison is `official`: by value it takes "5-3-2-1-4" for "5-2-3-1-4", and of "It is not A." it reads
    the letter. `without_unit` is the verdict when a unit after a free answer is passed over.
    """
    if answer is None:
        return missing("official", "vlmevalkit", "without_unit")
    truth, options = question.ground_truth, question.options
    letters = string.ascii_uppercase[: len(options)]
    right = options[letters.index(truth)] if options else truth
    letter = choice.letter(answer, letters, options) if options else None
    correct = letter == truth if letter else mathematics.is_equal(answer, right)
    by_value = not options and mathematics.is_equal(without_unit(answer), truth)
    letter_of_kit = choice.vlmevalkit(answer, options) if options else None
    values = {
        "official": any(mathematics.mathv_equal(answer, expected) for expected in {truth, right}),
        "vlmevalkit": letter_of_kit == truth if options else mathematics.vlmevalkit_equal(answer, truth),
        "without_unit": correct or by_value,
    }
    return by_rule(correct, answer, truth, values)
