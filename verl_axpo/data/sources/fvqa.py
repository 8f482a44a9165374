"""FVQA: questions about things and events in a picture; 3,312 of 4,856 training rows need a search.

fvqa_train.parquet -> rows with the picture inside

Only the training file is fetched. The repository also holds pickled search caches, which are never opened.
"""

from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, Field

from verl_axpo.data.problem import with_placeholders
from verl_axpo.data.sources.base import Draft, Source
from verl_axpo.data.sources.fields import Message, Pictures, Text


def _decoded(value: object) -> object:
    # A JSON string in the parquet; the validator's message names the field when it is none
    return orjson.loads(value) if isinstance(value, str) else value


class RewardModel(BaseModel):
    """Ground truth; `candidate_answers` is a JSON list in a string."""

    ground_truth: Text
    candidate_answers: Annotated[list[str], BeforeValidator(_decoded)]


class Row(BaseModel):
    """One row of `fvqa_train.parquet`."""

    data_id: Text
    prompt: list[Message] = Field(min_length=1)
    images: Pictures
    reward_model: RewardModel
    data_source: str
    category: Literal["search_required", "search_free"]


def draft(row: Row) -> Draft:
    """The row's problem: the last user turn, every candidate answer an alias."""
    question = [message.content for message in row.prompt if message.role == "user"]
    if not question:
        raise ValueError(f"prompt: got roles {[message.role for message in row.prompt]}, expected a user turn")
    truth = row.reward_model.ground_truth
    others = dict.fromkeys(one for one in row.reward_model.candidate_answers if one.strip() and one != truth)
    return Draft(
        id=row.data_id,
        question=with_placeholders(question[-1], len(row.images)),
        answer=truth,
        answer_type="short_text",
        pictures=tuple(picture.data for picture in row.images),
        aliases=tuple(others),
        metadata={"category": row.category, "from": row.data_source},
    )


SOURCE = Source(
    name="fvqa",
    repo="lmms-lab/FVQA",
    licence="apache-2.0",
    files=("fvqa_train.parquet",),
    tables=("fvqa_train.parquet",),
    row=Row,
    draft=draft,
    known_from="dataset card and viewer",
    rows=4_856,
)
