"""A parquet file as verl's RLHFDataset will read it: rows -> what would stop a run, or leave a picture out."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import DictConfig, OmegaConf

from verl_axpo.data.problem import PLACEHOLDER

DATASET = "pkg://verl_axpo.integration.dataset"  # verl's RLHFDataset, with the pictures that the tools see
AGENT_LOOPS = ("tool_agent", "axpo_tool_agent")  # what `agent_name` may be: verl's tool loop, for which ours stands in
ROWS_AT_ONCE = 256  # of maybe a megabyte each, with their pictures
_PIECES = re.compile("(<image>|<video>|<audio>)")  # as RLHFDataset cuts a message


def row_problems(path: Path, config: DictConfig) -> Iterator[str]:
    """The first row with each kind of problem; one for a file that is no parquet, or has no prompts.

    Args:
        path: of the file.
        config: verl's, for the names of its columns and its own agent loops.
    """
    data = OmegaConf.select(config, "data")
    prompt, image = data.get("prompt_key") or "prompt", data.get("image_key") or "images"
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        yield f"not a whole parquet file ({error}); make it again"
        return
    names = file.schema_arrow.names
    if prompt not in names:
        yield f"no column {prompt!r} among {names}; set data.prompt_key, or make the file again (docs/data.md)"
        return
    columns = [name for name in (prompt, image, "agent_name") if name in names]
    own_loops = OmegaConf.select(config, "actor_rollout_ref.rollout.agent.agent_loop_config_path")
    told: set[str] = set()
    batches = (batch.to_pylist() for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns))
    for number, row in enumerate(row for batch in batches for row in batch):
        for kind, problem in _problems_of(row, prompt, image, any_loop=bool(own_loops)):
            if kind not in told:
                told.add(kind)
                yield f"row {number}: {problem}"


def _problems_of(row: Mapping[str, Any], prompt: str, image: str, *, any_loop: bool) -> Iterator[tuple[str, str]]:
    """(kind, what is wrong)."""
    loop = row.get("agent_name")
    if loop is not None and loop not in AGENT_LOOPS and not any_loop:
        yield "loop", f"agent_name {loop!r}, expected one of {list(AGENT_LOOPS)}; drop the column, or set it so"
    contents = [message.get("content") for message in row[prompt] or ()] if isinstance(row[prompt], list) else []
    cells = row.get(image) or []
    if all(isinstance(content, str) for content in contents):
        places = sum(_PIECES.split(content).count(PLACEHOLDER) for content in contents)
        if places != len(cells):
            yield "count", f"{len(cells)} picture(s) for {places} {PLACEHOLDER}, expected one each; mend the row"
    missing = next((name for name in map(_file_of, cells) if name is not None and not Path(name).is_file()), None)
    if missing is not None:
        yield "picture", f"picture {missing} is not there; put it back, or make the file again"


def _file_of(cell: Any) -> str | None:
    """Where a picture lies on this machine; None for one that is in the row, or elsewhere."""
    name = cell.get("image") if isinstance(cell, Mapping) else cell
    local = isinstance(name, str) and ("://" not in name or name.startswith("file://"))
    return str(name).removeprefix("file://") if local and not str(name).startswith("data:") else None
