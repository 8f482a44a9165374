"""The tiny world as a source, so that its questions take the same way as the large ones.

train.parquet of `python -m verl_axpo.data.tiny` -> rows in verl's RL schema with the picture inside
"""

from pydantic import BaseModel, Field

from verl_axpo.data.sources.base import Draft, Source
from verl_axpo.data.sources.fields import Message, Pictures, Text


class RewardModel(BaseModel):
    """Ground truth."""

    ground_truth: Text


class ExtraInfo(BaseModel):
    """Where the row stands in the world."""

    index: int
    split: str


class Row(BaseModel):
    """One row as `verl_axpo.data.tiny.tables.rl_row` makes it."""

    data_source: str
    prompt: list[Message] = Field(min_length=1)
    images: Pictures
    reward_model: RewardModel
    extra_info: ExtraInfo


def draft(row: Row) -> Draft:
    """The row's problem: its last turn is the question; the system turn is written anew by whoever asks it."""
    return Draft(
        id=f"{row.extra_info.split}/{row.extra_info.index}",
        question=row.prompt[-1].content,
        answer=row.reward_model.ground_truth,
        answer_type="short_text",
        pictures=tuple(picture.data for picture in row.images),
        metadata={"from": row.data_source},
    )


SOURCE = Source(
    name="tiny",
    repo="python -m verl_axpo.data.tiny",
    licence="apache-2.0",
    files=(),
    tables=("train.parquet",),
    row=Row,
    draft=draft,
    known_from="this package",
)
