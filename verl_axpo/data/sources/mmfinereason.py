"""MMFineReason's hard set: of 123K distilled problems those that Qwen3-VL-4B solves in none of 4 attempts.

data/train-*.parquet -> rows with the picture inside -> pass rate above 0: unwanted, else a problem

Its long distilled solutions are not read. It shares problems with ViRL39K: de-duplicate.
"""

from pydantic import AliasChoices, BaseModel, Field

from verl_axpo.data.answer_types import typed
from verl_axpo.data.problem import with_placeholders
from verl_axpo.data.sources.base import Draft, Source, Unwanted
from verl_axpo.data.sources.fields import Identifier, Pictures, Text


class Row(BaseModel):
    """The columns used of `data/train-*.parquet`.

    The authors' repository calls the rate `qwen3vl_4b_pass_rate`, readers of the 123K files report `pass_rate`: either
    is taken. The picture is one struct or a list of them.
    """

    source: str
    id: Identifier
    question: Text
    answer: Text
    image: Pictures
    pass_rate: float = Field(ge=0, le=1, validation_alias=AliasChoices("qwen3vl_4b_pass_rate", "pass_rate"))


def draft(row: Row) -> Draft:
    """The row's problem.

    Raises:
        Unwanted: Qwen3-VL-4B solves it now and then.
    """
    if row.pass_rate > 0:
        raise Unwanted("pass rate of Qwen3-VL-4B above 0")
    found = typed(row.question, row.answer)
    return Draft(
        id=f"{row.source}/{row.id}",
        question=with_placeholders(row.question, len(row.image)),
        answer=found.answer,
        answer_type=found.kind,
        options=found.options,
        pictures=tuple(picture.data for picture in row.image),
        metadata={"from": row.source, "qwen3vl_4b_pass_rate": row.pass_rate},
    )


SOURCE = Source(
    name="mmfinereason",
    repo="OpenDataArena/MMFineReason-SFT-123K-Qwen3-VL-235B-Thinking",
    licence="apache-2.0",
    files=("data/train-*.parquet",),
    tables=("data/train-*.parquet",),
    row=Row,
    draft=draft,
    known_from="the authors' repository; picture type and the name of the rate from readers of the files",
    rows=122_603,
)
