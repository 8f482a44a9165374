"""HR-MMSearch: questions on 4K photographs that need both a close look and a web search.

    row -> Question(short_text) -> exact match over the truths, else judge -> Score

Official code: `OpenSenseNova/SenseNova-MARS`, verl/verl/utils/reward_score/tool.py and inference/eval.py.
"""

from pathlib import Path

from verl_axpo.eval import prompts
from verl_axpo.eval.benchmarks._base import Benchmark, Row, Source, paper_8b
from verl_axpo.eval.benchmarks._grading import short_text_grade
from verl_axpo.eval.benchmarks._images import encoded
from verl_axpo.eval.types import Question


def to_question(row: Row, uid: str, folder: Path | None) -> Question:
    """`ground_truth` may be a text or a list of accepted ones."""
    truths = row["ground_truth"] if isinstance(row["ground_truth"], list) else [row["ground_truth"]]
    truth, *aliases = map(str, truths)
    text = str(row["query"])
    return Question(
        benchmark="hr_mmsearch",
        uid=uid,
        prompt=prompts.render(text, "short_text", images=1),
        ground_truth=truth,
        answer_type="short_text",
        images=(encoded(row["query_image"], folder),),
        metadata={"question": text, "aliases": tuple(aliases)}
        | {key: str(row[key]) for key in ("difficulty", "category")},
    )


BENCHMARKS = (
    Benchmark(
        name="hr_mmsearch",
        column="HR-MMSearch",
        group="search",
        place=7,
        count=305,
        source=Source(
            repo="sensenova/HR-MMSearch",
            split="train",
            columns=("sample_id", "query", "query_image", "ground_truth", "difficulty", "category"),
            image_columns=("query_image",),
        ),
        to_question=to_question,
        grade=short_text_grade,
        judged=True,
        id_column="sample_id",
        paper=paper_8b(grpo=(24.4, 38.0, 97.0), axpo=(25.9, 42.0, 98.4)),
    ),
)
