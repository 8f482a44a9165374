"""What a benchmark is: where its rows are, how a row becomes a question, how an answer is scored.

    Source (repository, split, columns) -> rows -> to_question() -> Question -> grade() -> Score

One module of this package per benchmark; the module's `BENCHMARKS` is all that the registry reads.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from verl_axpo.eval.scorers.judging import Judge
from verl_axpo.eval.types import Question, Score

Row = Mapping[str, Any]
Group = Literal["math", "perception", "search"]
UNVERIFIED = "main"  # no hub could be reached while this was written: pass a commit to pin what you evaluate on
_COMMIT = re.compile(r"[0-9a-f]{40}")


class BenchmarkError(ValueError):
    """The data is not what the benchmark documents; the message says what was found and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the rows are.

    Example: `Source(repo="MathLLMs/MathVision", split="testmini", columns=("id", "question"))`
    """

    repo: str  # dataset repository on the Hugging Face hub
    split: str
    columns: tuple[str, ...]  # those that we read; others may be there
    config: str | None = None
    annotations: str | None = None  # a JSON or JSON lines file beside image files, instead of a table
    image_columns: tuple[str, ...] = ()
    revision: str = UNVERIFIED


def commit_of(source: Source, revision: str | None = None) -> str:
    """The commit that a branch or tag is at now; a commit is itself, without asking.

    Where the hub cannot be asked the revision comes back as it is: the data may lie in the cache.
    """
    wanted = revision or source.revision
    if _COMMIT.fullmatch(wanted):
        return wanted
    import httpx
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(source.repo, revision=wanted).sha or wanted
    except (httpx.HTTPError, OSError):  # no connection, offline mode, no such revision: reading says which
        return wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """What the paper (arXiv 2605.28774, 8B table) prints for one model on one benchmark, in percent."""

    pass_1: float
    pass_4: float
    tool_use: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One benchmark.

    `to_question` gets a row, its uid and the folder that image paths are relative to (None for tables with images
    inside). `choose` picks rows by one column where not all of them count. `paper` holds the paper's numbers by model
    name, not ours. `judged`: an answer that the rule of `grade` does not call right is a judge's to decide.
    """

    name: str
    column: str  # the paper's column
    group: Group
    place: int  # the paper's order of columns
    count: int | None  # questions after `choose`; None: not known for sure, so counted and not asserted
    source: Source
    to_question: Callable[[Row, str, Path | None], Question]
    grade: Callable[[Question, str | None, Judge | None], Awaitable[Score]]
    id_column: str
    judged: bool = False
    choose_by: str | None = None  # the column that `choose` reads
    choose: Callable[[Sequence[Any]], list[int]] | None = None  # its values -> rows that count
    paper: Mapping[str, PaperRow] = field(default_factory=dict)


def paper_8b(grpo: tuple[float, float, float], axpo: tuple[float, float, float]) -> Mapping[str, PaperRow]:
    """The paper's 8B rows of one column, each (Pass@1, Pass@4, tool utilization)."""
    return {
        name: PaperRow(pass_1=numbers[0], pass_4=numbers[1], tool_use=numbers[2])
        for name, numbers in (("SFT+GRPO", grpo), ("SFT+AXPO", axpo))
    }
