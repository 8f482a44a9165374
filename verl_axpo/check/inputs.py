"""What a training reads: parquet files with the columns of verl's datasets, the model's folder, the tool config.

Only a parquet file's footer is read, so that a file of 60 GB takes a millisecond.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import DictConfig, OmegaConf

from verl_axpo.check.command import Kind
from verl_axpo.doctor import Finding, fine, problem

COLUMNS: dict[Kind, tuple[str, ...]] = {"rl": ("prompt", "data_source", "reward_model"), "sft": ("messages",)}
MODEL_KEYS: dict[Kind, str] = {"rl": "actor_rollout_ref.model.path", "sft": "model.path"}
TOOLS = "actor_rollout_ref.rollout.multi_turn.tool_config_path"


def check_inputs(config: DictConfig, kind: Kind, made: Sequence[Path]) -> Iterator[Finding]:
    """Training files with the columns that verl's datasets read, the model's folder, the tool config."""
    for key in ("data.train_files", "data.val_files"):
        for file in listed(OmegaConf.select(config, key)):
            yield _file(key, file, COLUMNS[kind], made)
    model = Path(str(OmegaConf.select(config, MODEL_KEYS[kind])))
    if model.is_absolute() or model.exists():  # else a hub's id
        yield _there(MODEL_KEYS[kind], model, made)
    tools = OmegaConf.select(config, TOOLS) if kind == "rl" else None
    if tools:
        yield _there(TOOLS, Path(str(tools)), made)


def listed(value: Any) -> list[Path]:
    """verl's `data.train_files`: nothing, one path or a list of them."""
    if value is None:
        return []
    return [Path(str(path)).expanduser() for path in ([value] if isinstance(value, str | Path) else value)]


def _there(key: str, path: Path, made: Sequence[Path]) -> Finding:
    if path.exists():
        return fine(key, str(path))
    if any(folder in path.absolute().parents for folder in made):
        return fine(key, f"{path} is not there yet: an earlier command makes it")
    return problem(key, f"{path} does not exist", f"set {key} to what exists, or run the recipe that makes it")


def _file(key: str, file: Path, needed: Sequence[str], made: Sequence[Path]) -> Finding:
    if not file.is_file():
        return _there(key, file, made)
    try:
        names, rows = pq.read_schema(file).names, pq.read_metadata(file).num_rows
    except (OSError, pa.ArrowInvalid) as error:
        return problem(key, f"{file} is not a whole parquet file: {error}", "make it again; a copy may be cut short")
    missing = [name for name in needed if name not in names]
    if missing:
        return problem(key, f"{file} has no column {missing}, only {names}", "docs/data.md describes the columns")
    return fine(key, f"{file}: {rows:,} rows")
