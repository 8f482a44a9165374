"""DynaMath, first variant of each of its 501 seed questions.

    row -> Question(math | choice | short_text) -> DynaMath's rule for the row's answer_type -> Score

Official code: `DynaMath/DynaMath`, evaluation/opensource_json_eval.py and evaluation/gpt4o/gpt_4o_json_eval.py.
"""

import string
from pathlib import Path

from verl_axpo.eval import prompts
from verl_axpo.eval.benchmarks._base import Benchmark, Row, Source, paper_8b
from verl_axpo.eval.benchmarks._grading import by_rule
from verl_axpo.eval.benchmarks._images import encoded
from verl_axpo.eval.scorers import choice, dynamath
from verl_axpo.eval.scorers.judging import Judge, missing
from verl_axpo.eval.types import AnswerType, Question, Score
from verl_axpo.rewards.choice import options_in

_LETTERS = string.ascii_uppercase[:6]  # two questions have six options, none has more
_KINDS: dict[str, AnswerType] = {"float": "math", "int": "math", "single answer": "math", "multiple choice": "choice"}


def to_question(row: Row, uid: str, folder: Path | None) -> Question:
    """The choices stand inside the text, so no option lines are added."""
    text, answer_type = str(row["question"]), str(row["answer_type"])
    kind = _KINDS.get(answer_type, "short_text")
    return Question(
        benchmark="dynamath",
        uid=uid,
        prompt=prompts.render(text, kind, images=1, hint="float" if answer_type == "float" else None),
        ground_truth=str(row["ground_truth"]),
        answer_type=kind,
        images=(encoded(row["decoded_image"], folder),),
        options=options_in(text) if kind == "choice" else (),
        metadata={"question": text} | {key: str(row[key]) for key in ("answer_type", "subject", "knowledge_level")},
    )


async def grade(question: Question, answer: str | None, judge: Judge | None) -> Score:
    """Numbers by value, text as officially, a choice by its unique letter."""
    if answer is None:
        return missing("official", "vlmevalkit")
    truth, answer_type = question.ground_truth, str(question.metadata["answer_type"])
    if question.answer_type == "choice":
        correct = choice.letter(answer, _LETTERS, question.options) == truth
    else:
        correct = dynamath.lenient(answer, truth, answer_type)
    values = {
        "official": dynamath.official(answer, truth, answer_type),
        "vlmevalkit": dynamath.vlmevalkit(answer, truth, answer_type),
    }
    return by_rule(correct, answer, truth, values)


BENCHMARKS = (
    Benchmark(
        name="dynamath",
        column="DynaMath",
        group="math",
        place=1,
        count=501,
        source=Source(
            repo="DynaMath/DynaMath_Sample",
            split="sample_variant1",
            columns=("id", "question", "decoded_image", "ground_truth", "answer_type", "subject", "knowledge_level"),
            image_columns=("decoded_image",),
        ),
        to_question=to_question,
        grade=grade,
        id_column="id",
        paper=paper_8b(grpo=(78.2, 87.0, 30.7), axpo=(79.0, 87.0, 63.9)),
    ),
)
