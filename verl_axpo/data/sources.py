r"""The training data's sources, each a row model and a declaration.

    file on disk -> rows -> row model (pydantic, the documented schema) -> Source.draft -> Draft -> ingest

ViRL39K, FVQA and PyVision-RL have the problems of SFT and RL (paper, section 4). MMFineReason has the hard set, for RL
alone. To add a source, write its row model and its `draft`, and put a `Source` into `SOURCES`. docs/data.md says what
is read of each and what is not verified.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import orjson
from pydantic import AliasChoices, BaseModel, BeforeValidator, Field

from verl_axpo.data.answer_types import Answer, typed
from verl_axpo.rewards.answer import boxes


class Unwanted(Exception):
    """A sound row that the source's own selection leaves out; counted by its text, never among the bad ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A row with its pictures not yet fetched: encoded bytes, or a path inside the source."""

    id: str
    question: str
    answer: Answer
    pictures: tuple[bytes | str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A dataset.

    `files` are glob patterns of what to download, `tables` of the files with rows. `folders` are where relative picture
    paths may begin, in the folder or in any zip archive next to the tables. `known_from` says who vouches for the
    schema. `rows` is what the documentation counts, None where it does not.
    """

    name: str
    repo: str
    licence: str
    files: tuple[str, ...]
    tables: tuple[str, ...]
    row: type[BaseModel]
    draft: Callable[[Any], Draft]
    known_from: str
    folders: tuple[str, ...] = ("",)
    rows: int | None = None


class Message(BaseModel):
    """A turn of a prompt."""

    role: str
    content: str = Field(min_length=1)


class Picture(BaseModel):
    """An encoded image as `datasets` stores it; the `path` next to the bytes is only a name."""

    data: bytes = Field(validation_alias="bytes", min_length=1)


def _number_as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Text = Annotated[str, Field(min_length=1)]
Identifier = Annotated[Text, BeforeValidator(_number_as_text)]  # a text, or a number taken as one
Pictures = Annotated[  # a list, or a single picture
    list[Picture], BeforeValidator(lambda value: [value] if isinstance(value, dict) else value)
]
Json = BeforeValidator(lambda value: orjson.loads(value) if isinstance(value, str) else value)  # text in the parquet


class VirlRow(BaseModel):
    """A row of `39Krelease.parquet`; `image` has paths into images.zip, a pass rate of -1 means "not measured".

    `load_dataset` on the repository takes it for a folder of images because of the zip, so the parquet is read alone.
    """

    qid: Text
    question: Text
    answer: Text
    image: list[str]
    category: str
    source: str
    PassRate_32BTrained: float
    PassRate_7BBase: float


def _of_virl(row: VirlRow) -> Draft:
    r"""The answer without its `\boxed{}`, a list where there are several; raises ValueError where none is closed."""
    inside = ", ".join(row.answer[begin:end] for _, begin, end in boxes(row.answer))
    if not inside:
        raise ValueError(f"answer: got {row.answer!r}, expected \\boxed{{...}}")
    rates = {"pass_rate_32b_trained": row.PassRate_32BTrained, "pass_rate_7b_base": row.PassRate_7BBase}
    return Draft(
        id=row.qid,
        question=row.question,
        answer=typed(row.question, inside),
        pictures=tuple(row.image),
        metadata={"category": row.category, "from": row.source, **rates},
    )


VIRL39K = Source(
    name="virl39k",
    repo="TIGER-Lab/ViRL39K",
    licence="mit",
    files=("39Krelease.parquet", "images.zip"),
    tables=("39Krelease.parquet",),
    row=VirlRow,
    draft=_of_virl,
    known_from="dataset card; column types as independent public loaders of the file read them",
    rows=38_870,
)


class RewardModel(BaseModel):
    """Ground truth; `candidate_answers` is a JSON list in a string."""

    ground_truth: Text
    candidate_answers: Annotated[list[str], Json]


class FvqaRow(BaseModel):
    """A row of `fvqa_train.parquet`; the repository's pickled search caches are never opened."""

    data_id: Text
    prompt: list[Message] = Field(min_length=1)
    images: Pictures
    reward_model: RewardModel
    data_source: str
    category: Literal["search_required", "search_free"]


def _of_fvqa(row: FvqaRow) -> Draft:
    """The last user turn, every candidate answer an alias."""
    question = [message.content for message in row.prompt if message.role == "user"]
    if not question:
        raise ValueError(f"prompt: got roles {[message.role for message in row.prompt]}, expected a user turn")
    truth, others = row.reward_model.ground_truth, row.reward_model.candidate_answers
    aliases = dict.fromkeys(other for other in others if other.strip() and other != truth)
    return Draft(
        id=row.data_id,
        question=question[-1],
        answer=Answer(kind="short_text", text=truth, aliases=tuple(aliases)),
        pictures=tuple(picture.data for picture in row.images),
        metadata={"category": row.category, "from": row.data_source},
    )


FVQA = Source(
    name="fvqa",
    repo="lmms-lab/FVQA",
    licence="apache-2.0",
    files=("fvqa_train.parquet",),
    tables=("fvqa_train.parquet",),
    row=FvqaRow,
    draft=_of_fvqa,
    known_from="dataset card and viewer",
    rows=4_856,
)


class PyvisionRow(BaseModel):
    """An object of `pyvision_image_rl_data.json`; `id` is a number or a text.

    The card shows the objects but not how the pictures are packed. Its example is a row of the V* benchmark:
    de-duplicate against the benchmarks before anything is trained on this.
    """

    id: Identifier
    question: Text
    answer: Text
    ability: str
    data_source: str
    image_path: Text


def _of_pyvision(row: PyvisionRow) -> Draft:
    return Draft(
        id=f"{row.data_source}/{row.id}",  # ids count from 0 in each of the sets it is made of
        question=row.question,
        answer=typed(row.question, row.answer),
        pictures=(row.image_path,),
        metadata={"category": row.ability, "from": row.data_source},
    )


PYVISION = Source(
    name="pyvision",
    repo="Agents-X/PyVision-Image-RL-Data",
    licence="apache-2.0",
    files=("*.json", "*.zip", "*.jpg", "*.jpeg", "*.png", "*.webp"),
    tables=("pyvision_image_rl_data.json",),
    row=PyvisionRow,
    draft=_of_pyvision,
    known_from="dataset card; name of the file and folder of pictures from third parties, packing unverified",
    folders=("", "pyvision_image_rl_data"),
)


class MmfinereasonRow(BaseModel):
    """The columns used of `data/train-*.parquet`; the distilled solutions are not read.

    The authors' repository calls the rate `qwen3vl_4b_pass_rate`, readers of the 123K files report `pass_rate`: either
    is taken. The picture is one struct or a list of them.
    """

    source: str
    id: Identifier
    question: Text
    answer: Text
    image: Pictures
    pass_rate: float = Field(ge=0, le=1, validation_alias=AliasChoices("qwen3vl_4b_pass_rate", "pass_rate"))


def _of_mmfinereason(row: MmfinereasonRow) -> Draft:
    """Raises Unwanted where Qwen3-VL-4B solves the problem now and then: the hard set is what it never solves in 4."""
    if row.pass_rate > 0:
        raise Unwanted("pass rate of Qwen3-VL-4B above 0")
    return Draft(
        id=f"{row.source}/{row.id}",
        question=row.question,
        answer=typed(row.question, row.answer),
        pictures=tuple(picture.data for picture in row.image),
        metadata={"from": row.source, "qwen3vl_4b_pass_rate": row.pass_rate},
    )


MMFINEREASON = Source(
    name="mmfinereason",
    repo="OpenDataArena/MMFineReason-SFT-123K-Qwen3-VL-235B-Thinking",
    licence="apache-2.0",
    files=("data/train-*.parquet",),
    tables=("data/train-*.parquet",),
    row=MmfinereasonRow,
    draft=_of_mmfinereason,
    known_from="the authors' repository; picture type and the name of the rate from readers of the files",
    rows=122_603,
)
SOURCES = {source.name: source for source in (VIRL39K, FVQA, PYVISION, MMFINEREASON)}
HARD = MMFINEREASON.name


def source_of(name: str) -> Source:
    """The source called `name`; raises ValueError for an unknown one, with the names of all."""
    if name not in SOURCES:
        raise ValueError(f"source: got {name!r}; choose from {list(SOURCES)}")
    return SOURCES[name]
