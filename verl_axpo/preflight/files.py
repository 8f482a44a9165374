"""Training files before training: path -> parquet's footer -> rows, and the columns that verl's datasets read.

Only the footer is read, so that a file of 60 GB takes a millisecond.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from verl_axpo.preflight.problems import Finding, fine, problem

COLUMNS = {"rl": ("prompt", "data_source", "reward_model"), "sft": ("messages",)}


def listed(value: Any) -> list[Path]:
    """verl's `data.train_files`: nothing, one path or a list of them."""
    if value is None:
        return []
    return [Path(str(one)).expanduser() for one in (value if not isinstance(value, (str, Path)) else [value])]


def count_rows(files: Sequence[Path]) -> int:
    """Rows of all files together; 0 while one of them is not there or cannot be read."""
    try:
        return sum(pq.read_metadata(one).num_rows for one in files)
    except (OSError, pa.ArrowInvalid):
        return 0


def check_files(key: str, files: Sequence[Path], kind: str, coming: Sequence[str]) -> Iterator[Finding]:
    """Every file is there and has the columns, or an earlier stage makes it.

    Args:
        key: the config key that names them.
        files: as `listed` gives them.
        kind: `sft` or `rl`.
        coming: files and folders that stages before this one make.
    """
    for file in files:
        if file.is_file():
            yield from _check_columns(key, file, COLUMNS[kind])
        elif is_coming(file, coming):
            yield fine(key, f"{file} is not there yet: an earlier stage or recipe makes it")
        else:
            fix = f"set {key} to a parquet file, or make it: bash recipes/make_data.sh"
            yield problem(key, f"{file} is not there, and no stage before makes it", fix)


def is_coming(file: Path, coming: Sequence[str]) -> bool:
    """Whether an earlier stage makes this file or a folder above it."""
    made = [Path(one).expanduser().absolute() for one in coming]
    absolute = file.absolute()
    return any(one == absolute or one in absolute.parents for one in made)


def _check_columns(key: str, file: Path, needed: Sequence[str]) -> Iterator[Finding]:
    try:
        names = pq.read_schema(file).names
    except (OSError, pa.ArrowInvalid) as error:
        yield problem(
            key, f"{file} is not a whole parquet file: {error}", "make it again; a copy may have been cut short"
        )
        return
    missing = [name for name in needed if name not in names]
    if missing:
        yield problem(key, f"{file} has no column {missing}, only {names}", "make it with recipes/make_data.sh")
    else:
        yield fine(key, f"{file}: {count_rows([file]):,} rows")
