"""The same problem twice, or a benchmark's problem among the training data: found, dropped, reported.

problems, image records -> entries --.-> against the benchmarks: an image near one of theirs, or their question
benchmark questions -> references --'-> inside: the question and all images of an earlier problem
                                                                                -> kept problems, drops with reasons

Two conditions, each written out:
  image     perceptual hashes differ in at most `most_bits` of 256. Inside, every image in its place; against a
            benchmark, any image: one shared picture is a leak.
  question  equal after `normalised`. Against a benchmark without options and what follows them, and only when it has
            at least `least_words` words or no image that goes with it: "what is the colour of the car" is nobody's.
Inside, the question counts only with the same answer (`same_answer`): "find x" under six triangles is six problems.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import orjson

from verl_axpo.data.answer_types import Answer, same_answer
from verl_axpo.data.fingerprint import distance, normalised, perceptual_hash, stem
from verl_axpo.data.images import ImageLimits, ImageRecord, check
from verl_axpo.data.near import MOST_DISTANCE, near_pairs, words
from verl_axpo.data.problem import Problem
from verl_axpo.data.stage import outdated, versions
from verl_axpo.data.validation import parser
from verl_axpo.eval.types import Question
from verl_axpo.files import Line, read_lines, write_lines

RESTS_ON = ("data", "images")  # what a benchmark's entry is made by

Ordered = dict[int, None]  # a set of indices in order of arrival
Rule = Literal["both", "either", "image", "question"]
RULES: tuple[Rule, ...] = ("both", "either", "image", "question")


@dataclass(frozen=True, slots=True, kw_only=True)
class DedupConfig:
    """Which conditions drop a problem; see the module for their meaning."""

    inside: Rule = "both"
    against: Rule = "either"
    most_bits: int = 12
    least_words: int = 12

    def __post_init__(self) -> None:
        for name in ("inside", "against"):
            if getattr(self, name) not in RULES:
                raise ValueError(f"{name}: got {getattr(self, name)!r}; choose from {list(RULES)}")
        if not 0 <= self.most_bits <= MOST_DISTANCE:
            raise ValueError(f"most_bits: got {self.most_bits}, expected 0 to {MOST_DISTANCE} of 256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A problem, or a benchmark's question, as far as sameness goes; a benchmark's has no `answer`."""

    id: str
    source: str
    question: str  # normalised
    stem: str  # likewise, before the options
    phashes: tuple[str, ...]
    answer: Answer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """A problem left out: whom it repeats, by which condition, and in how many bits the images differ (None: by the
    question alone)."""

    id: str
    source: str
    scope: Literal["inside", "against"]
    same_as: str
    in_source: str
    by: str
    bits: int | None


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


def find_drops(entries: Sequence[Entry], references: Sequence[Entry], config: DedupConfig) -> list[Drop]:
    """What to leave out, in the order of `entries`: of two equal problems the earlier one stays.

    A problem that a benchmark has is dropped first and protects nobody: its repetitions are dropped by the same rule.
    """
    leaks = _against(entries, references, config)
    clean = [entry for entry in entries if entry.id not in leaks]
    repeats = _inside(clean, config)
    return [found for entry in entries if (found := leaks.get(entry.id) or repeats.get(entry.id)) is not None]


def _against(entries: Sequence[Entry], references: Sequence[Entry], config: DedupConfig) -> dict[str, Drop]:
    by_image = _image_matches(entries, references, config.most_bits)
    said: dict[str, Ordered] = {}  # by question
    telling: dict[str, Ordered] = {}  # likewise, where the question alone says enough
    for index, reference in enumerate(references):
        said.setdefault(reference.stem, {})[index] = None
        if not reference.phashes or len(reference.stem.split()) >= config.least_words:
            telling.setdefault(reference.stem, {})[index] = None
    drops = {}
    for index, entry in enumerate(entries):
        images = by_image.get(index, {})
        both = [other for other in images if other in said.get(entry.stem, ())]
        chosen = _decide(config.against, images, both, telling.get(entry.stem, ()))
        if chosen is not None:
            other, by = chosen
            drops[entry.id] = _drop(entry, references[other], "against", by, images.get(other))
    return drops


def _image_matches(entries: Sequence[Entry], others: Sequence[Entry], most: int) -> dict[int, dict[int, int]]:
    """For each entry the others that share any image with it, and in how many bits the nearest pair differs."""
    owner_A, hashes_A = _flat(entries)
    owner_B, hashes_B = _flat(others)
    if not hashes_A or not hashes_B:
        return {}
    a_P, b_P = near_pairs(words(hashes_A), words(hashes_B), most)
    found: dict[int, dict[int, int]] = {}
    for a, b in zip(a_P.tolist(), b_P.tolist(), strict=True):
        matches, bits = found.setdefault(owner_A[a], {}), distance(hashes_A[a], hashes_B[b])
        matches[owner_B[b]] = min(bits, matches.get(owner_B[b], bits))
    return found


def _flat(entries: Sequence[Entry]) -> tuple[list[int], list[str]]:
    """Every image of every entry: whose it is, and its hash."""
    owners = [index for index, entry in enumerate(entries) for _ in entry.phashes]
    return owners, [phash for entry in entries for phash in entry.phashes]


def _decide(
    rule: Rule, images: Mapping[int, int], both: Sequence[int], telling: Iterable[int]
) -> tuple[int, str] | None:
    """The other that an entry is dropped for, and by which condition; None keeps it.

    Args:
        rule: which conditions it takes.
        images: the others whose images are near, and in how many bits they differ.
        both: those of them with the same question.
        telling: the others whose question is the same and enough without the image; read only where the rule asks.
    """
    if both:
        return min(both), "image and question"
    if rule in ("either", "image") and images:
        return min(images, key=lambda other: (images[other], other)), "image"
    first = next(iter(telling), None) if rule in ("either", "question") else None
    return None if first is None else (first, "question")


def _drop(entry: Entry, other: Entry, scope: Literal["inside", "against"], by: str, bits: int | None) -> Drop:
    return Drop(
        id=entry.id, source=entry.source, scope=scope, same_as=other.id, in_source=other.source, by=by, bits=bits
    )


def _inside(entries: Sequence[Entry], config: DedupConfig) -> dict[str, Drop]:
    earlier = _earlier_images(entries, config)
    kept: dict[str, Ordered] = {}  # by question
    texts: dict[str, Ordered] = {}  # likewise, of problems without an image: the question is the whole problem
    drops: dict[str, Drop] = {}
    for index, entry in enumerate(entries):
        images = {other: bits for other, bits in earlier.get(index, {}).items() if entries[other].id not in drops}
        both = [other for other in images if _is_same_question(entry, entries[other])]
        asked = kept if entry.phashes or config.inside in ("either", "question") else texts
        said = (other for other in asked.get(entry.question, ()) if _is_same_question(entry, entries[other]))
        chosen = _decide(config.inside if entry.phashes else "question", images, both, said)
        if chosen is not None:
            drops[entry.id] = _drop(entry, entries[chosen[0]], "inside", chosen[1], images.get(chosen[0]))
            continue
        kept.setdefault(entry.question, {})[index] = None
        if not entry.phashes:
            texts.setdefault(entry.question, {})[index] = None
    return drops


def _is_same_question(entry: Entry, other: Entry) -> bool:
    return entry.question == other.question and same_answer(entry.answer, other.answer)


def _earlier_images(entries: Sequence[Entry], config: DedupConfig) -> dict[int, dict[int, int]]:
    """For each entry the earlier ones with the same number of images, near in every place, and the largest distance.

    Where the rule asks for the question too, only entries with the same one are compared.
    """
    numbers: dict[str, int] = {}
    keys = np.array([numbers.setdefault(entry.question, len(numbers)) for entry in entries], dtype=np.int64)
    found: dict[int, dict[int, int]] = {}
    for count in sorted({len(entry.phashes) for entry in entries} - {0}):
        indices = [index for index, entry in enumerate(entries) if len(entry.phashes) == count]
        asked = keys[indices] if config.inside == "both" else None
        places = [words([entries[index].phashes[place] for index in indices]) for place in range(count)]
        a_P, b_P = near_pairs(places[0], places[0], config.most_bits, asked, asked)
        a_P, b_P = a_P[b_P < a_P], b_P[b_P < a_P]
        bits_P = [np.bitwise_count(place[a_P] ^ place[b_P]).sum(axis=1, dtype=np.int64) for place in places]
        worst_P = np.max(bits_P, axis=0)
        for a, b, bits in zip(a_P.tolist(), b_P.tolist(), worst_P.tolist(), strict=True):
            if bits <= config.most_bits:
                found.setdefault(indices[a], {})[indices[b]] = bits
    return found
