"""MMSearch, end to end: news and rare knowledge that only a search can give, with an image or without.

    row -> Question(short_text) -> exact match over the aliases, else judge; with the official F1 -> Score

Official code: `CaraJ7/MMSearch`, score/f1_score.py, eval_end2end.py, prompts/prompt.py. Its score is the best F1 over
`gt_answer` and the aliases, since September 2024; agentic papers judge, so both are reported.
"""

from dataclasses import replace
from pathlib import Path

from verl_axpo.eval import prompts
from verl_axpo.eval.benchmarks._base import Benchmark, Row, Source, paper_8b
from verl_axpo.eval.benchmarks._grading import short_text_grade
from verl_axpo.eval.benchmarks._images import encoded
from verl_axpo.eval.scorers.judging import Judge
from verl_axpo.eval.types import Question, Score


def to_question(row: Row, uid: str, folder: Path | None) -> Question:
    """`image_search_result` is left out: the agent has to find things itself."""
    text, image = str(row["query"]), row["query_image"]
    images = () if image is None else (encoded(image, folder),)
    return Question(
        benchmark="mmsearch",
        uid=uid,
        prompt=prompts.render(text, "short_text", images=len(images), hint="search"),
        ground_truth=str(row["gt_answer"]),
        answer_type="short_text",
        images=images,
        metadata={"question": text, "aliases": tuple(map(str, row["alternative_gt_answers"] or ()))}
        | {key: str(row[key]) for key in ("area", "subfield", "timestamp")},
    )


async def grade(question: Question, answer: str | None, judge: Judge | None) -> Score:
    """As every short text; `official` is the benchmark's own number."""
    score = await short_text_grade(question, answer, judge)
    return replace(score, values={**score.values, "official": score.values["f1_aliases"]})


BENCHMARKS = (
    Benchmark(
        name="mmsearch",
        column="MMSearch",
        group="search",
        place=8,
        count=300,
        source=Source(
            repo="CaraJ/MMSearch",
            config="end2end",
            split="end2end",
            columns=(
                *("sample_id", "query", "query_image", "area", "subfield", "timestamp"),
                *("gt_answer", "alternative_gt_answers"),
            ),
            image_columns=("query_image", "image_search_result"),
        ),
        to_question=to_question,
        grade=grade,
        judged=True,
        id_column="sample_id",
        paper=paper_8b(grpo=(44.0, 59.3, 97.7), axpo=(45.0, 61.0, 98.3)),
    ),
)
