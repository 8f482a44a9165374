"""MathVision testmini: competition problems with figures, half of them with five options.

    row -> Question(math | choice) -> MATH-V's is_equal against the letter or the option's text -> Score

Official code: `mathllm/MATH-V`, evaluation/evaluate.py and utils.py, models/GPT4V.py (options, merged image).
"""

import re
import string
from pathlib import Path

from verl_axpo.eval import prompts
from verl_axpo.eval.benchmarks._base import Benchmark, Row, Source, paper_8b
from verl_axpo.eval.benchmarks._grading import by_rule, checked_letter
from verl_axpo.eval.benchmarks._images import encoded
from verl_axpo.eval.scorers import choice, mathematics
from verl_axpo.eval.scorers.judging import Judge, missing
from verl_axpo.eval.scorers.wrapping import undress
from verl_axpo.eval.types import AnswerType, Question, Score

_LETTER = re.compile(r"[({]([a-eA-E])[)}]")


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


def _official(answer: str, truth: str, options: tuple[str, ...]) -> bool:
    text = options[string.ascii_uppercase.index(truth)] if options else ""
    bare = _LETTER.sub(r"\1", mathematics.stated(undress(answer)))
    return any(mathematics.is_equal(bare, right) for right in (truth, text))


def _vlmevalkit(answer: str, truth: str, options: tuple[str, ...]) -> bool:
    if options:
        return choice.vlmevalkit(answer, options) == truth
    return mathematics.vlmevalkit_equal(answer, truth)


async def grade(question: Question, answer: str | None, judge: Judge | None) -> Score:
    """MATH-V's verdict; for a choice, a letter that only our reading finds ("B. because ...") counts too."""
    if answer is None:
        return missing("official", "vlmevalkit")
    truth, options = question.ground_truth, question.options
    official = _official(answer, truth, options)
    letters = string.ascii_uppercase[: len(options)]
    found = bool(options) and choice.letter(answer, letters, options) == truth
    values = {"official": official, "vlmevalkit": _vlmevalkit(answer, truth, options)}
    return by_rule(official or found, answer, truth, values)


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
