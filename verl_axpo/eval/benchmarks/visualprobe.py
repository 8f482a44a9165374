"""VisualProbe, hard part: tiny details in cluttered pictures, short free answers.

    val.json + data/ -> Question(short_text) -> exact match, else judge -> Score

Official code: `Mini-o3/Mini-o3`, verl/utils/reward_score/general_qa_tool.py: the judge decides on every answer.
"""

from pathlib import Path

from verl_axpo.eval import prompts
from verl_axpo.eval.benchmarks._base import Benchmark, Row, Source, paper_8b
from verl_axpo.eval.benchmarks._grading import short_text_grade
from verl_axpo.eval.benchmarks._images import encoded
from verl_axpo.eval.types import Question

_FOLDER = "VisualProbe_Hard/"  # what the paths of val.json begin with; the repository itself is that folder


def to_question(row: Row, uid: str, folder: Path | None) -> Question:
    """`problem` already has its `<image>` line."""
    text = str(row["problem"])
    images = tuple(encoded(str(path).removeprefix(_FOLDER), folder) for path in row["images"])
    return Question(
        benchmark="visualprobe",
        uid=uid,
        prompt=prompts.render(text, "short_text", images=len(images)),
        ground_truth=str(row["solution"]),
        answer_type="short_text",
        images=images,
        metadata={"question": text.replace(prompts.IMAGE, "").strip()},
    )


BENCHMARKS = (
    Benchmark(
        name="visualprobe",
        column="VisualProbe",
        group="perception",
        place=4,
        count=106,
        source=Source(
            repo="Mini-o3/VisualProbe_Hard",
            split="val",
            columns=("images", "doc_id", "problem", "solution"),
            annotations="val.json",
        ),
        to_question=to_question,
        grade=short_text_grade,
        judged=True,
        id_column="doc_id",
        paper=paper_8b(grpo=(40.1, 63.2, 99.1), axpo=(45.8, 67.9, 100.0)),
    ),
)
