"""What of a problem, or of a benchmark's question, tells whether two are the same; the benchmarks' entries on disk.

problem, image records -> entry_of() -> Entry
benchmarks -> note_benchmarks() -> benchmarks.jsonl -> held_out(): is every benchmark there? -> read_references()
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from verl_axpo.data.answer_types import Answer
from verl_axpo.data.fingerprint import normalised, perceptual_hash, stem
from verl_axpo.data.images import ImageLimits, ImageRecord, check
from verl_axpo.data.problem import Problem
from verl_axpo.data.stage import outdated, versions
from verl_axpo.data.validation import parser
from verl_axpo.data.workspace import Workspace
from verl_axpo.eval import benchmarks
from verl_axpo.eval.registry import load_all
from verl_axpo.eval.types import Question
from verl_axpo.files import Line, read_lines, write_lines

RESTS_ON = ("data", "images")  # what a benchmark's entry is made by


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A problem, or a benchmark's question, as far as sameness goes; a benchmark's has no `answer`."""

    id: str
    source: str
    question: str  # normalised
    stem: str  # likewise, before the options
    phashes: tuple[str, ...]
    answer: Answer | None = None


_entry_in = parser(Entry)


def entry_of(problem: Problem, records: Mapping[str, ImageRecord]) -> Entry:
    """A problem's entry, by the hashes made when its images were stored.

    Raises:
        ValueError: an image that is not in the store.
    """
    missing = [image for image in problem.images if image not in records]
    if missing:
        raise ValueError(f"{problem.id}: image {missing[0]} is not in the store; ingest {problem.source} again")
    phashes = tuple(records[image].phash for image in problem.images)
    answer = Answer(text=problem.answer, kind=problem.answer_type, aliases=problem.aliases, options=problem.options)
    return _entry(problem.id, problem.source, problem.question, phashes, answer)


def _entry(name: str, source: str, question: str, phashes: tuple[str, ...], answer: Answer | None = None) -> Entry:
    said, asked = normalised(question), normalised(stem(question))
    return Entry(id=name, source=source, question=said, stem=asked, phashes=phashes, answer=answer)


def refresh_references(path: Path, benchmark: str, questions: Iterable[Question]) -> int:
    """Write the entries of one benchmark, a JSON object per line, in place of its earlier ones; returns how many.

    Those of all other benchmarks stay.

    Raises:
        ValueError: a line of the file is no entry.
    """
    known = _entries(path) if path.exists() else ()
    others = [line.data for line in known if line.value[0].source != benchmark]
    added = [_line(_reference(question)) for question in questions]
    write_lines(path, (*others, *added))
    return len(added)


def _line(entry: Entry) -> bytes:
    said = {name: value for name, value in asdict(entry).items() if name != "answer"}
    return orjson.dumps({**said, "versions": versions(RESTS_ON)})


def _reference(question: Question) -> Entry:
    phashes = tuple(perceptual_hash(check(data, ImageLimits())) for data in question.images)
    # The benchmark's own text where the loader keeps it: a prompt ends with an instruction
    text = str(question.metadata.get("question") or question.prompt)
    return _entry(f"{question.benchmark}/{question.uid}", question.benchmark, text, phashes)


def read_references(path: Path) -> list[Entry]:
    """The entries that `refresh_references` wrote.

    Raises:
        ValueError: a line that is none, or that other rules made; names file and line, or what to run.
    """
    entries = []
    for line in _entries(path):
        entry, changed = line.value
        if changed:
            raise ValueError(
                f"{path} line {line.number}: {entry.source} was noted by other rules ({changed}); "
                f"run `verl-axpo data benchmarks --benchmark {entry.source}` again"
            )
        entries.append(entry)
    return entries


def _entries(path: Path) -> Iterator[Line[tuple[Entry, str]]]:
    """Each entry, and which rules have changed since it was noted."""
    try:
        yield from read_lines(path, _with_changes, at_once=True)
    except ValueError as error:
        raise ValueError(f"{error}; remove the file and run `verl-axpo data benchmarks` again") from None


def _with_changes(line: bytes) -> tuple[Entry, str]:
    return _entry_in(line), outdated(orjson.loads(line).get("versions"))


def note_benchmarks(
    work: Workspace, registry: Any, chosen: Sequence[str] | None, sources: Sequence[str], revisions: Sequence[str]
) -> tuple[int, dict[str, str | None]]:
    """Note what the benchmarks ask and show, for `dedup_sources`; one benchmark's images are in memory at a time.

    Each benchmark takes the place of its own earlier entries as soon as it is read; the others' stay.

    Args:
        work: where to.
        registry: a module with `names` and `load`.
        chosen: the benchmarks; None for all of them.
        sources, revisions: NAME=PATH of local copies, NAME=COMMIT on the hub.

    Returns:
        how many questions, and of each benchmark the commit that was read, `local`, or None.

    Raises:
        ValueError: an unknown benchmark, or what loading refuses.
    """
    names = chosen or list(registry.names())
    unknown = sorted(set(names) - set(registry.names()))
    if unknown:
        raise ValueError(f"benchmarks: got {unknown}, expected names of {list(registry.names())}")
    read: dict[str, str | None] = {}
    count = 0
    for name, loaded in load_all(registry, names, sources, revisions):
        count += refresh_references(work.benchmarks, name, loaded.questions)
        read[name] = loaded.revision
    return count, read


def held_out(work: Workspace, added: Sequence[Path], without: Collection[str]) -> list[Path]:
    """The files of entries that must not be trained on: the benchmarks', and `added` ones.

    Args:
        work: has the benchmarks' entries.
        added: further files of entries.
        without: names of benchmarks that need not be noted.

    Raises:
        ValueError: a benchmark is neither noted nor in `without`, or a name there is none.
    """
    official = list(benchmarks.names())
    unknown = sorted(set(without) - set(official))
    if unknown:
        raise ValueError(f"without-benchmark: got {unknown}, expected names of {official}")
    files = [*([work.benchmarks] if work.benchmarks.exists() else []), *added]
    noted = {entry.source for path in files for entry in read_references(path)}
    missing = [name for name in official if name not in noted and name not in without]
    if missing:
        named = " ".join(f"--benchmark {name}" for name in missing)
        left_out = " ".join(f"--without-benchmark {name}" for name in missing)
        raise ValueError(
            f"dedup: {work.benchmarks} has no questions of {', '.join(missing)}, which must be kept out of training; "
            f"run `verl-axpo data benchmarks {named}`. Training on a benchmark makes its results worthless. For "
            f"benchmarks that you will never report, add {left_out}"
        )
    return files
