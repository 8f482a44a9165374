"""HR-Bench at 4K and 8K: 200 questions each, every one in four rotations of its options.

    800 rows -> one rotation -> 200 Question(choice) -> letter -> Score

Official code: `DreamMr/HR-Bench`, hrbench/vlmeval (an LLM says yes or no), and `open-compass/VLMEvalKit`, which reads
the letter. Both average over the four rotations; the paper's decimals fit 200 questions, so one rotation is kept.
"""

import string
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from verl_axpo.eval import prompts
from verl_axpo.eval.benchmarks._base import Benchmark, BenchmarkError, Row, Source, paper_8b
from verl_axpo.eval.benchmarks._grading import checked_letter, choice_grade
from verl_axpo.eval.benchmarks._images import encoded
from verl_axpo.eval.types import Question

_LETTERS = string.ascii_uppercase[:4]


def first_rotation(cycles: Sequence[Any]) -> list[int]:
    """Rows of the rotation that sorts first among the values of `cycle_category`.

    Raises:
        BenchmarkError: the rotations are not of one size, so the table is only part of the data.
    """
    sizes = Counter(map(str, cycles))
    if len(set(sizes.values())) > 1:
        raise BenchmarkError(f"rotations (cycle_category) of different sizes {dict(sizes)}; take the whole split")
    return [index for index, cycle in enumerate(cycles) if str(cycle) == min(sizes)]


def _to_question(name: str, row: Row, uid: str) -> Question:
    text, options = str(row["question"]), tuple(str(row[mark]) for mark in _LETTERS)
    return Question(
        benchmark=name,
        uid=uid,
        prompt=prompts.render(text, "choice", options=options, images=1),
        ground_truth=checked_letter(str(row["answer"]).strip(), options),
        answer_type="choice",
        images=(encoded(row["image"]),),
        options=options,
        metadata={"question": text, "category": str(row["category"]), "cycle_category": str(row["cycle_category"])},
    )


def to_question_4k(row: Row, uid: str, folder: Path | None) -> Question:
    """The image is base64 text inside the table."""
    return _to_question("hrbench_4k", row, uid)


def to_question_8k(row: Row, uid: str, folder: Path | None) -> Question:
    """The image is base64 text inside the table."""
    return _to_question("hrbench_8k", row, uid)


def _source(split: str) -> Source:
    return Source(
        repo="DreamMr/HR-Bench",
        config="hrbench_version_split",
        split=split,
        columns=("index", "question", "answer", "category", *_LETTERS, "cycle_category", "image"),
    )


BENCHMARKS = (
    Benchmark(
        name="hrbench_4k",
        column="HR-4K",
        group="perception",
        place=5,
        count=200,
        source=_source("hrbench_4k"),
        to_question=to_question_4k,
        grade=choice_grade,
        id_column="index",
        choose_by="cycle_category",
        choose=first_rotation,
        paper=paper_8b(grpo=(79.5, 87.5, 73.0), axpo=(83.3, 90.0, 90.0)),
    ),
    Benchmark(
        name="hrbench_8k",
        column="HR-8K",
        group="perception",
        place=6,
        count=200,
        source=_source("hrbench_8k"),
        to_question=to_question_8k,
        grade=choice_grade,
        id_column="index",
        choose_by="cycle_category",
        choose=first_rotation,
        paper=paper_8b(grpo=(74.9, 84.5, 78.0), axpo=(77.0, 89.0, 92.0)),
    ),
)
