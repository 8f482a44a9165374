"""What a source is, and how one of its rows becomes a draft of a problem.

file on disk -> rows -> row model (pydantic, the documented schema) -> Source.draft -> Draft -> ingest

A source module holds three things: the row model, `draft`, and the `Source` that names them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from verl_axpo.eval.types import AnswerType


class Unwanted(Exception):
    """A sound row that the source's own selection leaves out; counted by its text, never among the bad ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A row with its pictures not yet fetched: encoded bytes, or a path inside the source."""

    id: str
    question: str
    answer: str
    answer_type: AnswerType
    pictures: tuple[bytes | str, ...] = ()
    aliases: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One dataset.

    `files` are glob patterns of what to download, `tables` of the files with rows. `folders` are where relative picture
    paths may begin, in the folder or in any zip archive beside the tables. `known_from` says who vouches for the
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
