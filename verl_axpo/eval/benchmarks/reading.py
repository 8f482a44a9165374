"""Rows and images of a benchmark, from the hub or from a local copy.

    repository name -> datasets / huggingface_hub \\
    folder, .parquet, .json(l)                     -> Table: rows, folder of image files -> columns checked
    {"bytes", "path"} | base64 text | path in the copy -> encoded() -> bytes -> fault() -> None or the reason

Images stay encoded: the `Image` columns of a table are read without decoding.
"""

import base64
import binascii
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verl_axpo.eval.benchmarks.base import BenchmarkError, Row, Source
from verl_axpo.images import ImageRefused, open_image

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as an indexable sequence, their column names, and the folder that image paths are relative to."""

    rows: Sequence[Row]
    columns: tuple[str, ...]
    folder: Path | None = None

    def column(self, name: str) -> list[Any]:
        """One column's values, without touching the others: an image column is gigabytes."""
        if isinstance(self.rows, list):
            return [row[name] for row in self.rows]
        return list(self.rows.select_columns([name])[name])  # type: ignore[attr-defined]  # a datasets.Dataset


def read(name: str, source: Source, local: Path | None) -> Table:
    """Read a benchmark's rows.

    Args:
        name: the benchmark, for messages.
        source: where it lives and what its columns are.
        local: a folder laid out as the hub repository, or its file; None: the hub.

    Raises:
        BenchmarkError: nothing there, or a column is missing.
    """
    where = str(local) if local else f"{source.repo}@{source.revision}"
    if local is not None and not local.exists():
        raise BenchmarkError(f"{name}: {local} does not exist; give a copy of the dataset {source.repo}")
    try:
        table = _annotated(source, local) if source.annotations else _tabular(source, local)
    except BenchmarkError:
        raise
    except (OSError, ValueError) as error:
        raise BenchmarkError(
            f"{name}: could not read {where} (config {source.config}, split {source.split}): {error}. "
            f"Offline? Copy the dataset {source.repo} here and give its folder as the source."
        ) from error
    _check_columns(name, source, table.columns, where)
    return table


def _check_columns(name: str, source: Source, found: Iterable[str], where: str) -> None:
    missing = [column for column in source.columns if column not in found]
    if missing:
        raise BenchmarkError(
            f"{name}: {where} lacks the column(s) {missing}; it has {sorted(found)}. "
            f"Expected are {list(source.columns)}, as in {source.repo}: take that dataset, or another revision of it."
        )


def _tabular(source: Source, local: Path | None) -> Table:
    """A table with images inside: parquet, through `datasets`."""
    from datasets import Image, load_dataset

    if local is None:
        data = load_dataset(source.repo, source.config, split=source.split, revision=source.revision)
    elif local.is_file():
        data = load_dataset("parquet", data_files={source.split: str(local)}, split=source.split)
    else:
        data = load_dataset(str(local), source.config, split=source.split)
    for column in set(source.image_columns) & set(data.column_names):
        if isinstance(data.features[column], Image):
            data = data.cast_column(column, Image(decode=False))
    return Table(data, tuple(data.column_names))


def _annotated(source: Source, local: Path | None) -> Table:
    """A JSON or JSON lines file next to image files: the repository as files, through `huggingface_hub`."""
    if local is None:
        from huggingface_hub import snapshot_download

        local = Path(snapshot_download(source.repo, repo_type="dataset", revision=source.revision))
        _LOGGER.info("%s is at commit %s", source.repo, local.name)
    file = local if local.is_file() else local / str(source.annotations)
    if not file.exists():
        raise BenchmarkError(f"{file} does not exist; the folder holds {sorted(item.name for item in local.iterdir())}")
    rows = _parse(file.read_text(encoding="utf-8"), file)
    shared = set.intersection(*(set(row) for row in rows)) if rows else set()
    return Table(rows, tuple(sorted(shared)), file.parent)


def _parse(text: str, file: Path) -> list[dict[str, Any]]:
    lines = (line for line in text.split("\n") if line.strip())  # not `splitlines`: a text may hold U+2028
    rows = json.loads(text) if file.suffix == ".json" else [json.loads(line) for line in lines]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BenchmarkError(f"{file} must hold a list of objects, it holds {type(rows).__name__}")
    return rows


def encoded(value: Any, folder: Path | None = None) -> bytes:
    """The image file as it came.

    Args:
        value: bytes; an undecoded `datasets` image (`{"bytes": ..., "path": ...}`); base64 text when `folder` is None,
            else a path inside `folder`.
        folder: the copy of the repository that paths are relative to.

    Raises:
        BenchmarkError: nothing there to read; the reason in the message.
    """
    if isinstance(value, dict):
        value = value.get("bytes") or _file(folder, str(value.get("path")))
    if isinstance(value, str):
        value = _file(folder, value) if folder is not None else _decoded(value)
    if not isinstance(value, bytes):
        raise BenchmarkError(f"no image: got {type(value).__name__}")
    return value


def _file(folder: Path | None, path: str) -> bytes:
    """By its words alone: in a copy of the hub the files themselves are links into the hub's store."""
    if folder is None or Path(path).is_absolute() or ".." in Path(path).parts:
        raise BenchmarkError(f"image {path!r} is outside of the copy ({folder}); expected a path inside it")
    try:
        return (folder / path).read_bytes()
    except OSError as error:
        raise BenchmarkError(f"{folder / path}: {error.strerror}") from error


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise BenchmarkError(f"not base64: {error}") from error


def fault(image: bytes) -> str | None:
    """Why an image cannot be shown; None when it can. JPEGs are decoded at an eighth: enough to see a cut file."""
    try:
        open_image(image, enough=1)
    except ImageRefused as error:
        return str(error).removeprefix("image: ")
    return None
