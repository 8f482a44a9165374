"""The paper's nine benchmarks: loading their questions and scoring answers to them.

names() -> load(name, source) -> [Question] ... final answer -> score(question, answer, judge) -> Score

table.py    the nine declarations
asking.py   what a row of each asks
grading.py  how answers are graded, of the parts in `verl_axpo.eval.scorers`
base.py     what a benchmark is
reading.py  rows and images from the hub or a local copy, columns checked
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from verl_axpo.eval.benchmarks.base import Benchmark, BenchmarkError
from verl_axpo.eval.benchmarks.reading import Table, fault, read
from verl_axpo.eval.benchmarks.table import BENCHMARKS
from verl_axpo.eval.registry import PaperRow
from verl_axpo.eval.scorers.judging import Judge
from verl_axpo.eval.types import Question, Score

__all__ = [
    "Benchmark",
    "BenchmarkError",
    "Judge",
    "PaperRow",
    "commit_of",
    "get",
    "judged",
    "load",
    "names",
    "score",
]

_LISTED_FAULTS = 20  # rows of corrupt images that a message spells out
_BY_NAME = {benchmark.name: replace(benchmark, place=place) for place, benchmark in enumerate(BENCHMARKS)}


def names() -> tuple[str, ...]:
    """The benchmarks' names, in the order of the paper's columns."""
    return tuple(_BY_NAME)


def get(name: str) -> Benchmark:
    """One benchmark: its group, the paper's column and numbers, its source.

    Raises:
        BenchmarkError: no such benchmark.
    """
    try:
        return _BY_NAME[name]
    except KeyError:
        raise BenchmarkError(f"unknown benchmark {name!r}; choose from {list(names())}") from None


def commit_of(name: str, revision: str | None = None) -> str:
    """The commit of the hub's data that `load(name, revision=...)` would read now.

    Args:
        name: one of `names()`.
        revision: commit, tag or branch; None: the one in the benchmark's `source`.

    Returns:
        the commit, or the revision as it is where the hub cannot be asked.

    Raises:
        BenchmarkError: unknown name.
    """
    return get(name).source.commit(revision)


def load(
    name: str,
    source: str | Path | None = None,
    *,
    revision: str | None = None,
    limit: int | None = None,
    check_count: bool = True,
) -> list[Question]:
    """The questions of a benchmark, images still encoded but known to decode.

    Args:
        name: one of `names()`.
        source: a local copy: a folder laid out as the hub repository, its table as a .parquet file, or its annotation
            file; None: download from the hub.
        revision: the hub's commit, tag or branch; None: the one in the benchmark's `source`.
        limit: only the first so many questions; the count is that of the whole data all the same.
        check_count: whether the data must have exactly as many questions as documented.

    Raises:
        BenchmarkError: unknown name, no data, a column missing, another count than documented, corrupt images.
    """
    benchmark = get(name)
    where = replace(benchmark.source, revision=revision or benchmark.source.revision)
    table = read(name, where, None if source is None else Path(source))
    kept = _kept(benchmark, table)
    if check_count and benchmark.count is not None and len(kept) != benchmark.count:
        raise BenchmarkError(
            f"{name}: {len(kept)} questions, documented are {benchmark.count} ({benchmark.source.repo}, split "
            f"{benchmark.source.split}, {len(table.rows)} rows read). Another revision, or part of the data? "
            "Take the documented one, or load with check_count=False and say so next to the numbers."
        )
    questions = list(_questions(benchmark, table, kept[:limit]))
    _check_uids(name, [question.uid for question in questions])
    return questions


def _kept(benchmark: Benchmark, table: Table) -> Sequence[int]:
    if benchmark.choose is None or benchmark.choose_by is None:
        return range(len(table.rows))
    return benchmark.choose(table.column(benchmark.choose_by))


def _questions(benchmark: Benchmark, table: Table, kept: Iterable[int]) -> Iterable[Question]:
    """Questions in order; every faulty row is collected before anything is raised."""
    faults: list[str] = []
    for index in kept:
        row = table.rows[index]
        uid = str(row[benchmark.id_column])
        try:
            question = benchmark.question(row, uid, table.folder)
        except ValueError as error:
            faults.append(f"row {index} (id {uid}): {error}")
            continue
        reasons = [f"image {place}: {why}" for place, image in enumerate(question.images) if (why := fault(image))]
        faults.extend(f"row {index} (id {uid}): {reason}" for reason in reasons)
        if not reasons:
            yield question
    if faults:
        more = len(faults) - _LISTED_FAULTS
        listed = "\n  ".join(faults[:_LISTED_FAULTS] + ([f"and {more} more"] if more > 0 else []))
        raise BenchmarkError(f"{benchmark.name}: {len(faults)} unusable row(s); fetch the data again:\n  {listed}")


def _check_uids(name: str, uids: list[str]) -> None:
    repeated = sorted(uid for uid, times in Counter(uids).items() if times > 1)
    if repeated:
        raise BenchmarkError(f"{name}: ids must be unique, repeated are {repeated[:_LISTED_FAULTS]}")


def judged(question: Question) -> bool:
    """Whether a judge, if there is one, decides on an answer that the rule does not call right."""
    return get(question.benchmark).judged


async def score(question: Question, answer: str | None, judge: Judge | None) -> Score:
    """Score the final answer to a question by its benchmark's rules.

    Args:
        question: as `load` gave it.
        answer: the final answer, already extracted from the response; None when the response has none.
        judge: asked where the rule does not say right; None: the rule decides alone.

    Returns:
        the verdict; `correct` is None only when the judge failed. `values` has the benchmark's other conventions by
        name, each in [0, 1].
    """
    text = answer if answer is not None and answer.strip() else None
    return await get(question.benchmark).grade(question, text, judge)
