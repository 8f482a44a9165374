"""The tiny world's held-out questions as benchmarks, one per family, for `verl-axpo eval run --registry`.

the world of seed 0, or a heldout.parquet -> load() -> [Question] -> answer -> score(): exact match, as the reward
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from examples.tiny_world import tables, world
from examples.tiny_world.families import NAMES
from verl_axpo.eval.registry import Described
from verl_axpo.eval.types import Question, Score
from verl_axpo.rewards.answer import normalise

FILE_NAME = "heldout.parquet"
SEED, QUESTIONS = 0, 192  # of the world made here: as many as `python -m examples.tiny_world` holds out
COLUMNS = ("data_source", "prompt", "images", "reward_model", "extra_info")


def names() -> Sequence[str]:
    """The families."""
    return NAMES


def get(name: str) -> Described:
    """A family's place in the report; the paper has no numbers for it."""
    return Described(column=name, group="tiny", place=_known(name))


def load(name: str, source: str | Path | None = None, *, limit: int | None = None) -> list[Question]:
    """The held-out questions of a family.

    Args:
        name: of the family.
        source: a world's folder, or its `heldout.parquet`; None: made here, the first of seed 0.
        limit: only the first so many.

    Raises:
        ValueError: an unknown family, no such file, or a file of another kind.
    """
    _known(name)
    rows = _made() if source is None else _read(name, Path(source))
    found = [_question(name, row) for row in rows if row["data_source"] == f"tiny/{name}"]
    if not found:
        raise ValueError(f"{name}: no question of this family in {source}; make the world with --families {name}")
    return found[:limit]


async def score(question: Question, answer: str | None, judge: Any) -> Score:
    """Right if it is the ground truth, whatever its case and spaces; nobody needs a judge for that."""
    if answer is None:
        return Score(correct=False, by="rule", reason="no final answer")
    right = normalise(answer) == normalise(question.ground_truth)
    return Score(correct=right, by="rule", reason=f"{answer!r} {'=' if right else 'is not'} {question.ground_truth!r}")


def _made() -> Iterator[Mapping[str, Any]]:
    return (tables.rl_row(example) for example in world.examples("heldout", QUESTIONS, SEED))


def _read(name: str, source: Path) -> list[dict[str, Any]]:
    path = source / FILE_NAME if source.is_dir() else source
    if not path.is_file():
        raise ValueError(f"{name}: no file {path}; make one with `python -m examples.tiny_world --out DIR`")
    missing = sorted(set(COLUMNS) - set(pq.read_schema(path).names))
    if missing:
        raise ValueError(f"{path}: columns {missing} are missing, expected {list(COLUMNS)}")
    rows: list[dict[str, Any]] = pq.read_table(path, columns=list(COLUMNS)).to_pylist()
    return rows


def _question(name: str, row: Mapping[str, Any]) -> Question:
    return Question(
        benchmark=name,
        uid=str(row["extra_info"]["index"]),
        prompt=row["prompt"][-1]["content"],
        ground_truth=row["reward_model"]["ground_truth"],
        answer_type="short_text",
        images=tuple(image["bytes"] for image in row["images"]),
    )


def _known(name: str) -> int:
    if name not in NAMES:
        raise ValueError(f"benchmark: got {name!r}; choose from {list(NAMES)}")
    return NAMES.index(name)
