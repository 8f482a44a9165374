"""PyVision-RL's image data: about 44,600 questions of visual search, charts and mathematics for agents.

pyvision_image_rl_data.json (a list of objects) -> rows with a path of a picture

The card shows the objects but not how the pictures are packed. Third parties join the relative paths to a folder
`pyvision_image_rl_data`; a plain folder and zip archives are looked through, with and without that folder's name. The
card's example is a row of the V* benchmark: de-duplicate against the benchmarks before anything is trained on this.
"""

from pydantic import BaseModel

from verl_axpo.data.answer_types import typed
from verl_axpo.data.problem import with_placeholders
from verl_axpo.data.sources.base import Draft, Source
from verl_axpo.data.sources.fields import Identifier, Text


class Row(BaseModel):
    """One object of `pyvision_image_rl_data.json`; `id` is a number or a text."""

    id: Identifier
    question: Text
    answer: Text
    ability: str
    data_source: str
    image_path: Text


def draft(row: Row) -> Draft:
    """The row's problem; a choice's answer reduced to its letter."""
    found = typed(row.question, row.answer)
    return Draft(
        id=f"{row.data_source}/{row.id}",  # ids count from 0 in each of the sets it is made of
        question=with_placeholders(row.question, 1),
        answer=found.answer,
        answer_type=found.kind,
        options=found.options,
        pictures=(row.image_path,),
        metadata={"category": row.ability, "from": row.data_source},
    )


SOURCE = Source(
    name="pyvision",
    repo="Agents-X/PyVision-Image-RL-Data",
    licence="apache-2.0",
    files=("*.json", "*.zip", "*.jpg", "*.jpeg", "*.png", "*.webp"),
    tables=("pyvision_image_rl_data.json",),
    row=Row,
    draft=draft,
    known_from="dataset card; name of the file and folder of pictures from third parties, packing unverified",
    folders=("", "pyvision_image_rl_data"),
)
