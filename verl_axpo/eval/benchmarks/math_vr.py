"""Math-VR bench (English): problems of several parts, with or without figures; every part must be right.

    row -> Question(judge) -> all parts equal by rule? right : judge -> Score (answer correctness)

Official code: `HKU-MMLab/Math-VR-CodePlot-CoT`, Math-VR-Eval.py, Math-VR-Infer.py, summarize_score.py. Its judge also
reads the solution against scoring points; that process score needs the whole response and is not computed here.
"""

import json
import re
from pathlib import Path
from typing import Any

from verl_axpo.eval import prompts
from verl_axpo.eval.benchmarks._base import Benchmark, Row, Source, paper_8b
from verl_axpo.eval.benchmarks._images import encoded
from verl_axpo.eval.scorers import mathematics
from verl_axpo.eval.scorers.judging import Judge, missing, rule_then_judge
from verl_axpo.eval.types import Question, Score

_MAX_IMAGES = 8  # columns image1 .. image8
_PLACEHOLDER = re.compile(rf"<image([1-{_MAX_IMAGES}])>")


def _answer_text(value: Any) -> str:
    """The `answers` column, of which neither type nor form is documented: text, a JSON list as text, or a list."""
    if isinstance(value, list):
        return "; ".join(map(str, value))
    text = str(value)
    try:
        listed = json.loads(text)
    except ValueError:
        return text
    return "; ".join(map(str, listed)) if isinstance(listed, list) else text


def to_question(row: Row, uid: str, folder: Path | None) -> Question:
    """An image stands where the text first mentions it; the official script puts them all behind the text."""
    text, seen = str(row["question"]), list[str]()

    def place(found: re.Match[str]) -> str:
        if found[1] in seen:
            return ""
        seen.append(found[1])
        return prompts.IMAGE

    placed = _PLACEHOLDER.sub(place, text)
    return Question(
        benchmark="math_vr",
        uid=uid,
        prompt=prompts.render(placed, "judge", images=len(seen)),
        ground_truth=_answer_text(row["answers"]),
        answer_type="judge",
        images=tuple(encoded(row[f"image{number}"], folder) for number in seen),
        metadata={"question": text, "category": str(row["category"]), "parts": int(row["number_of_answers"])},
    )


async def grade(question: Question, answer: str | None, judge: Judge | None) -> Score:
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


BENCHMARKS = (
    Benchmark(
        name="math_vr",
        column="Math-VR",
        group="math",
        place=2,
        count=None,  # 2,500 by the README, 3,000 by the dataset card; which of them the paper used is not said
        source=Source(
            repo="gogoduan/Math-VR-bench",
            split="test",
            columns=("id", "question", "image1", "category", "number_of_answers", "answers"),
            image_columns=tuple(f"image{number}" for number in range(1, _MAX_IMAGES + 1)),
        ),
        to_question=to_question,
        grade=grade,
        judged=True,
        id_column="id",
        paper=paper_8b(grpo=(60.4, 74.3, 7.6), axpo=(60.6, 74.1, 29.1)),
    ),
)
