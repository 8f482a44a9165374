"""A parquet file as verl's datasets will read it: rows -> what would stop a run, or leave a picture out."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import DictConfig

from verl_axpo.data.problem import miscounted

DATASET = "pkg://verl_axpo.integration.dataset"  # verl's RLHFDataset, with the pictures that the tools see
AGENT_LOOPS = ("tool_agent", "axpo_tool_agent")  # what `agent_name` may be: verl's tool loop, for which ours stands in
ROWS_AT_ONCE = 256
FILES = ("data.train_files", "data.val_files")  # keys of the config


def listed(value: Any) -> list[Path]:
    """The local paths of verl's `data.train_files`: nothing, one path or a list of them."""
    names = [value] if isinstance(value, str | Path) else value or []
    return [Path(str(name)).expanduser() for name in names if "://" not in str(name)]


def open_rows(path: Path, needed: Sequence[str]) -> pq.ParquetFile:
    """The file's footer; no row is read.

    Raises:
        ValueError: it is no whole parquet file, or has not all of the columns.
    """
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"not a whole parquet file ({error}); make it again, a copy may be cut short") from None
    names = file.schema_arrow.names
    missing = [name for name in needed if name not in names]
    if missing:
        raise ValueError(f"no column {', '.join(map(repr, missing))} among {names}; docs/data.md describes the columns")
    return file


def row_problems(path: Path, data: DictConfig, needed: Sequence[str] = (), *, any_loop: bool = False) -> Iterator[str]:
    """The first row with each kind of problem; or that the file is no parquet, or has no prompts.

    Args:
        path: of the file.
        data: verl's `data`, for the names of the columns.
        needed: columns beyond the prompt that have to be there.
        any_loop: rows may name agent loops that are not ours.
    """
    prompt, image = data.get("prompt_key") or "prompt", data.get("image_key") or "images"
    try:
        file = open_rows(path, (prompt, *needed))
    except ValueError as error:
        yield str(error)
        return
    told: set[str] = set()
    batches = (batch.to_pylist() for batch in file.iter_batches(ROWS_AT_ONCE, columns=_light(file, prompt, image)))
    for number, row in enumerate(row for batch in batches for row in batch):
        for kind, problem in _problems_of(row, prompt, image, any_loop=any_loop):
            if kind not in told:
                told.add(kind)
                yield f"row {number}: {problem}"


def _light(file: pq.ParquetFile, prompt: str, image: str) -> list[str]:
    """The columns to read: prompts, loops, and of pictures all but the bytes, which would be gigabytes."""
    paths = [file.schema.column(at).path for at in range(len(file.schema))]
    chosen = [path for path in paths if path.partition(".")[0] in (prompt, image, "agent_name")]
    light = [path for path in chosen if not path.endswith(".bytes")]
    has_pictures = any(path.startswith(f"{image}.") for path in light)
    return light if has_pictures else chosen  # pictures that are bytes only are counted by their bytes


def _problems_of(row: Mapping[str, Any], prompt: str, image: str, *, any_loop: bool) -> Iterator[tuple[str, str]]:
    """(kind, what is wrong)."""
    loop = row.get("agent_name")
    if loop is not None and loop not in AGENT_LOOPS and not any_loop:
        yield "loop", f"agent_name {loop!r}, expected one of {list(AGENT_LOOPS)}; drop the column, or use one of these"
    contents = [message.get("content") for message in row[prompt] or ()] if isinstance(row[prompt], list) else []
    cells = row.get(image) or []
    if wrong := miscounted(contents, len(cells)):
        yield "count", f"{wrong}; correct the row"
    missing = next((name for name in map(_file_of, cells) if name is not None and not Path(name).is_file()), None)
    if missing is not None:
        yield "picture", f"picture {missing} is missing; restore it, or make the parquet file again"


def _file_of(cell: Any) -> str | None:
    """Where a picture lies on this machine; None for a picture that is in the row, or on another machine."""
    name = cell.get("image") if isinstance(cell, Mapping) else cell
    local = isinstance(name, str) and ("://" not in name or name.startswith("file://"))
    return str(name).removeprefix("file://") if local and not str(name).startswith("data:") else None
