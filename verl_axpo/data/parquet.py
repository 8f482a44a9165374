"""Rows to parquet and back, a group at a time.

rows -> write()     -> one parquet file, whole or not at all
file -> iter_rows() -> rows, or a message that says what is wrong with the file
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from verl_axpo.files import replacing

Row = dict[str, Any]

# Rows of a group hold their images: 128 of half a megabyte are 64 MB in memory, and far from the 2 GB that one Arrow
# column of bytes can address.
GROUP_ROWS = 128


def write(path: Path, rows: Iterable[Row], schema: Any = None) -> int:
    """Write one parquet file, whole or not at all.

    Args:
        path: where; its folder is made.
        rows: consumed once, a group at a time.
        schema: a `pyarrow.Schema`; without one the first group's types hold for all.

    Returns:
        the number of rows.

    Raises:
        ValueError: no rows and no schema to write them with.
        pyarrow.ArrowInvalid: a row that does not fit the schema.
    """
    remaining, count = iter(rows), 0
    first = list(islice(remaining, GROUP_ROWS))
    if not first and schema is None:
        raise ValueError(f"{path}: there are no rows to write, and no schema for an empty file")
    schema = schema or pa.Table.from_pylist(first).schema
    with replacing(path) as unfinished, unfinished.open("wb") as file, pq.ParquetWriter(file, schema) as writer:
        group = first
        while group:
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            count += len(group)
            group = list(islice(remaining, GROUP_ROWS))
    return count


def iter_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """The rows of a parquet file in order, `columns` alone where given.

    A value that holds text which is no UTF-8 is replaced by its UnicodeDecodeError: it costs its own row, for a row
    model takes no error, and no other row.

    Raises:
        ValueError: the file is truncated or damaged; says what to do.
    """
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=GROUP_ROWS, columns=columns):
                yield from _rows_of(batch)
    except (pa.ArrowInvalid, OSError) as error:
        raise damaged(path, error) from error


def _rows_of(batch: Any) -> list[Row]:
    try:
        rows: list[Row] = batch.to_pylist()
        return rows
    except UnicodeDecodeError:
        values = [[_value(scalar) for scalar in column] for column in batch.columns]
        return [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*values, strict=True)]


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        return error


def columns_of(path: Path) -> list[str]:
    """The column names of a parquet file; raises like `iter_rows`."""
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowInvalid, OSError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> ValueError:
    """The message for a file that cannot be read to its end."""
    if isinstance(error, FileNotFoundError):
        return ValueError(f"{path}: no such file")
    return ValueError(
        f"{path}: got {path.stat().st_size:,} bytes that are not a whole parquet file ({error}); "
        "it was cut off or damaged on its way: delete it and fetch it again"
    )
