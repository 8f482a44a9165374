"""MathVision testmini: competition problems with figures, half of them with five options.

    row -> Question(math | choice) -> MATH-V's is_equal against the letter or the option's text -> Score

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
    """A choice by our letter where it reads one; else MATH-V's comparison, as it is or with typesetting taken off.

    The letter comes first because MATH-V only compares with the right option: by value, "5-3-2-1-4" is "5-2-3-1-4".
    """
    if answer is None:
        return missing("official", "vlmevalkit")
    truth, options = question.ground_truth, question.options
    letters = string.ascii_uppercase[: len(options)]
    rights = (truth, options[letters.index(truth)]) if options else (truth,)
    official = any(mathematics.mathv_equal(answer, right) for right in rights)
    wider = any(mathematics.is_equal(answer, right) for right in rights)
    found = choice.letter(answer, letters, options) if options else None
    values = {"official": official, "vlmevalkit": _vlmevalkit(answer, truth, options)}
    return by_rule(found == truth if found else official or wider, answer, truth, values)


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
