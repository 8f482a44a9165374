"""A parquet file of one's own data, every row of it, before it is trained on: `verl-axpo data check FILE`.

FILE -> columns -> RL rows (`prompt`) or demonstrations (`messages`) -> problems() -> (row number, what is wrong)

It checks types, the shape of the conversation, `<image>` against pictures, whether each picture opens, the answer type
and whether its rule can read the truth, and repetitions. docs/own_data.md shows how to make such a file.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field, ValidationError

from verl_axpo.data import parquet
from verl_axpo.data.problem import miscounted
from verl_axpo.data.sources import Text
from verl_axpo.data.validation import reasons
from verl_axpo.images import ImageRefused, open_image
from verl_axpo.rewards.choice import chosen_letter, options_in
from verl_axpo.rewards.config import RewardConfig
from verl_axpo.rewards.graders import answer_type_of
from verl_axpo.rewards.math import read

COLUMNS = {"RL": ("prompt", "data_source", "reward_model"), "SFT": ("messages",)}
OTHERS = ("images", "extra_info", "tools")  # read where they are there
BENCHMARK = "benchmark/"  # data sources whose rows a benchmark's own scorer grades


class Message(BaseModel):
    """A turn of the conversation; `content` is a text with `<image>` in it, or a list of parts."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Text | list[Any]


class Truth(BaseModel):
    """The column `reward_model`."""

    ground_truth: Text


class Extra(BaseModel):
    """What our reward reads of the column `extra_info`."""

    answer_type: str | None = None
    options: list[str] | None = None


class RlRow(BaseModel):
    """A question for RL."""

    prompt: list[Message] = Field(min_length=1)
    data_source: Text
    reward_model: Truth
    extra_info: Extra | None = None
    images: list[Any] | None = None


class SftRow(BaseModel):
    """A demonstration."""

    messages: list[Message] = Field(min_length=2)
    tools: str | None = None
    images: list[Any] | None = None


def problems(path: Path) -> Iterator[tuple[int, str]]:
    """Every bad row of a file: its number, from 0, and what is wrong with it.

    Raises:
        ValueError: no whole parquet file, or a column is missing; says what is there.
    """
    names = parquet.columns_of(path)
    kind = "SFT" if "messages" in names and "prompt" not in names else "RL"
    missing = [name for name in COLUMNS[kind] if name not in names]
    if missing:
        raise ValueError(
            f"{path}: {missing} are missing among its columns {names}; {kind} needs {list(COLUMNS[kind])} "
            "(docs/own_data.md)"
        )
    seen: dict[bytes, int] = {}
    wanted = [name for name in (*COLUMNS[kind], *OTHERS) if name in names]
    for number, values in enumerate(parquet.iter_rows(path, wanted)):
        try:
            row: RlRow | SftRow = (RlRow if kind == "RL" else SftRow).model_validate(values)
        except ValidationError as error:
            yield number, reasons(error)
            continue
        for problem in _of_demonstration(row) if isinstance(row, SftRow) else _of_question(row):
            yield number, problem
        first = seen.setdefault(_digest(row), number)
        if first != number:
            yield number, f"repeats row {first}; remove one of them"


def _of_question(row: RlRow) -> Iterator[str]:
    if row.prompt[-1].role != "user":
        yield f"prompt: got a last turn of {row.prompt[-1].role!r}, expected 'user': the policy answers it"
    yield from _of_pictures(row.prompt, row.images or [])
    extra, truth = row.extra_info or Extra(), row.reward_model.ground_truth
    if row.data_source.startswith(BENCHMARK):
        return
    try:
        kind = answer_type_of(row.data_source, {"answer_type": extra.answer_type}, RewardConfig())
    except ValueError as error:
        yield str(error)
        return
    asked = row.prompt[-1].content
    options = tuple(extra.options or (options_in(asked) if isinstance(asked, str) else ()))
    if kind == "choice" and chosen_letter(truth, options) is None:
        among = list(options) or "its options"
        yield f"ground_truth: got {truth!r} for a choice, expected the letter of one of {among}"
    if kind == "math" and read(truth) is None:
        yield f"ground_truth: got {truth!r}, which no rule reads as mathematics; set answer_type to short_text or judge"


def _of_demonstration(row: SftRow) -> Iterator[str]:
    if row.messages[-1].role != "assistant":
        yield f"messages: got a last turn of {row.messages[-1].role!r}, expected 'assistant': it is trained"
    yield from _of_pictures(row.messages, row.images or [])
    try:
        schemas = orjson.loads(row.tools) if row.tools else []
    except orjson.JSONDecodeError as error:
        yield f"tools: is no JSON ({error}); write a list of tool schemas as JSON text"
        return
    if not isinstance(schemas, list):
        yield f"tools: got a JSON {type(schemas).__name__}, expected a list of tool schemas"


def _of_pictures(messages: list[Message], pictures: list[Any]) -> Iterator[str]:
    if wrong := miscounted([message.content for message in messages], len(pictures)):
        yield f"images: got {wrong}"
    for picture in pictures:
        try:
            open_image(picture)
        except ImageRefused as error:
            yield str(error)


def _digest(row: RlRow | SftRow) -> bytes:
    """Of all that tells a row from others: the conversation, the pictures, the truth."""
    said, truth = (row.messages, None) if isinstance(row, SftRow) else (row.prompt, row.reward_model)
    told = repr(([(message.role, message.content) for message in said], row.images, truth))
    return hashlib.sha256(told.encode("utf-8", "replace")).digest()
