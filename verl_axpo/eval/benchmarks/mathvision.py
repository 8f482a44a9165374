"""MathVision testmini: competition problems with figures, half of them with five options.

    row -> Question(math | choice) -> our letter, or equality with the option's text or the truth -> Score

Official code: `mathllm/MATH-V`, evaluation/evaluate.py and utils.py, models/GPT4V.py (options, merged image).
"""

import string
from pathlib import Path

from verl_axpo.eval import prompts
from verl_axpo.eval.benchmarks._base import Benchmark, Row, Source, paper_8b
from verl_axpo.eval.benchmarks._grading import by_rule, checked_letter
from verl_axpo.eval.benchmarks._images import encoded
from verl_axpo.eval.scorers import choice, mathematics
from verl_axpo.eval.scorers.judging import Judge, missing
from verl_axpo.eval.scorers.tidying import without_unit
from verl_axpo.eval.types import AnswerType, Question, Score


def to_question(row: Row, uid: str, folder: Path | None) -> Question:
    """`decoded_image` is one merged image, so `<image1>` in the text stays a word, as in the official prompt."""
    options = tuple(map(str, row["options"] or ()))
    kind: AnswerType = "choice" if options else "math"
    return Question(
        benchmark="mathvision",
        uid=uid,
        prompt=prompts.render(str(row["question"]), kind, options=options, images=1),
        ground_truth=checked_letter(str(row["answer"]), options) if options else str(row["answer"]),
        answer_type=kind,
        images=(encoded(row["decoded_image"], folder),),
        options=options,
        metadata={key: str(row[key]) for key in ("question", "level", "subject")},
    )


def _vlmevalkit(answer: str, truth: str, options: tuple[str, ...]) -> bool:
    if options:
        return choice.vlmevalkit(answer, options) == truth
    return mathematics.vlmevalkit_equal(answer, truth)


async def grade(question: Question, answer: str | None, judge: Judge | None) -> Score:
    """A choice by our letter, or by being equal to the right option's text; a free answer by being equal to the truth.

    MATH-V's own comparison is beside it as `official`: by value it takes "5-3-2-1-4" for "5-2-3-1-4", and of "It is not
    A." it reads the letter. `without_unit` is the verdict when a unit after a free answer is passed over.
    """
    if answer is None:
        return missing("official", "vlmevalkit", "without_unit")
    truth, options = question.ground_truth, question.options
    letters = string.ascii_uppercase[: len(options)]
    right = options[letters.index(truth)] if options else truth
    found = choice.letter(answer, letters, options) if options else None
    correct = found == truth if found else mathematics.is_equal(answer, right)
    by_value = not options and mathematics.is_equal(without_unit(answer), truth)
    values = {
        "official": any(mathematics.mathv_equal(answer, accepted) for accepted in {truth, right}),
        "vlmevalkit": _vlmevalkit(answer, truth, options),
        "without_unit": correct or by_value,
    }
    return by_rule(correct, answer, truth, values)


BENCHMARKS = (
    Benchmark(
        name="mathvision",
        column="MathVision",
        group="math",
        place=0,
        count=304,
        source=Source(
            repo="MathLLMs/MathVision",
            split="testmini",
            columns=("id", "question", "options", "decoded_image", "answer", "level", "subject"),
            image_columns=("decoded_image",),
        ),
        to_question=to_question,
        grade=grade,
        id_column="id",
        paper=paper_8b(grpo=(55.3, 75.0, 46.1), axpo=(56.1, 75.7, 75.7)),
    ),
)
