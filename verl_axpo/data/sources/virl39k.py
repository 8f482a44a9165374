r"""ViRL39K: 38,870 verifiable questions on diagrams, charts and photographs.

39Krelease.parquet -> rows with paths into images/ (images.zip, or extracted beside the parquet)

`load_dataset` on the repository takes it for a folder of images because of the zip, so the parquet is read by itself.
Answers are wrapped in `\boxed{}`; a pass rate of -1 means "not measured".
"""

from pydantic import BaseModel

from verl_axpo.data.answer_types import typed
from verl_axpo.data.problem import with_placeholders
from verl_axpo.data.sources.base import Draft, Source
from verl_axpo.data.sources.fields import Text
from verl_axpo.rewards.answer import boxes


class Row(BaseModel):
    """One row of `39Krelease.parquet`."""

    qid: Text
    question: Text
    answer: Text
    image: list[str]
    category: str
    source: str
    PassRate_32BTrained: float
    PassRate_7BBase: float


def draft(row: Row) -> Draft:
    r"""The row's problem; the answer without its `\boxed{}`, a list where there are several.

    Raises:
        ValueError: an answer without a closed `\boxed{}`.
    """
    inside = ", ".join(row.answer[begin:end] for _, begin, end in boxes(row.answer))
    if not inside:
        raise ValueError(f"answer: got {row.answer!r}, expected \\boxed{{...}}")
    found = typed(row.question, inside)
    return Draft(
        id=row.qid,
        question=with_placeholders(row.question, len(row.image)),
        answer=found.answer,
        answer_type=found.kind,
        options=found.options,
        pictures=tuple(row.image),
        metadata={
            "category": row.category,
            "from": row.source,
            "pass_rate_32b_trained": row.PassRate_32BTrained,
            "pass_rate_7b_base": row.PassRate_7BBase,
        },
    )


SOURCE = Source(
    name="virl39k",
    repo="TIGER-Lab/ViRL39K",
    licence="mit",
    files=("39Krelease.parquet", "images.zip"),
    tables=("39Krelease.parquet",),
    row=Row,
    draft=draft,
    known_from="dataset card; column types as independent public loaders of the file read them",
    rows=38_870,
)
