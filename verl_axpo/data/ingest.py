"""A source's folder into problems: every row validated, every image checked and stored.

rows -> row model -> draft -> pictures -> ImageStore -> Problem -> problems.jsonl
           |            |________|_________________________|
           bad rows, with place and reason -> bad_rows.jsonl; too many of them and nothing is written
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from verl_axpo.data.answer_types import rule_of, with_judge
from verl_axpo.data.images import ImageStore
from verl_axpo.data.problem import Problem, write_problems
from verl_axpo.data.reading import PictureFolder, rows
from verl_axpo.data.sources import Draft, Source, Unwanted
from verl_axpo.data.stage import examples
from verl_axpo.data.validation import reasons, shown
from verl_axpo.files import write_lines
from verl_axpo.prompts import IMAGE
from verl_axpo.tools.text import inert

MAX_BAD = 0.01  # share of bad rows that is skipped without asking; more means that the schema is not what we think
TOLD_ROWS = 3  # bad rows quoted in the message; the file has all of them

Progress = Callable[[int], None]  # rows done so far


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """A row that is no problem: where it stands and why."""

    place: str
    reason: str

    @property
    def kind(self) -> str:
        """What the reason is about: the column, or the picture."""
        return self.reason.split(":")[0]


@dataclass(slots=True, kw_only=True)
class Ingested:
    """What came of a source's rows; `unwanted` has reason and place of what the source's own selection left out,
    `answer_types` the problems by how their answers are scored, `answer_rules` likewise in more detail."""

    source: str
    rows: int = 0
    bad: list[BadRow] = field(default_factory=list)
    unwanted: list[BadRow] = field(default_factory=list)
    answer_types: Counter[str] = field(default_factory=Counter)
    answer_rules: Counter[str] = field(default_factory=Counter)

    def summary(self, problems: int, images: int, documented: int | None) -> dict[str, Any]:
        """The numbers for the data card."""
        return {
            "source": self.source,
            "rows": self.rows,
            "rows_documented": documented,
            "bad": len(self.bad),
            "bad_reasons": dict(Counter(row.kind for row in self.bad)),
            "unwanted": dict(Counter(row.reason for row in self.unwanted)),
            "problems": problems,
            "answer_types": dict(self.answer_types),
            "answer_rules": dict(self.answer_rules),
            "images": images,
            "examples": examples([(row.kind, row.place) for row in self.bad])
            | examples([(row.reason, row.place) for row in self.unwanted]),
        }


def ingest(
    source: Source,
    root: Path,
    out: Path,
    store: ImageStore,
    max_bad: float = MAX_BAD,
    judge_above_words: int | None = None,
    progress: Progress = lambda done: None,
) -> dict[str, Any]:
    """Write `problems.jsonl` and `bad_rows.jsonl` into `out`, images into `store`; for `judge_above_words` see `read`.

    Returns:
        the numbers of the funnel's first step.

    Raises:
        ValueError: files that cannot be read, or more than `max_bad` of the rows are bad (the list is written first).
        OSError: the disk is full; stored images stay and are not checked again.
    """
    if not 0 <= max_bad <= 1:
        raise ValueError(f"max_bad: got {max_bad}, expected a share between 0 and 1")
    if judge_above_words is not None and judge_above_words < 0:
        raise ValueError(f"judge_above_words: got {judge_above_words}, expected 0 or more, or none at all")
    result, images = Ingested(source=source.name), set[str]()
    problems = []
    for problem in read(source, root, store, result, judge_above_words):
        problems.append(problem)
        images.update(problem.images)
        progress(result.rows)
    write_lines(out / "bad_rows.jsonl", (orjson.dumps(row) for row in result.bad))
    check_share(result, max_bad, out / "bad_rows.jsonl")
    return result.summary(write_problems(out / "problems.jsonl", problems), len(images), source.rows)


def check_share(result: Ingested, max_bad: float, listed: Path | None = None) -> None:
    """Refuse a source with too many bad rows, or without a single row.

    Raises:
        ValueError: quotes the first bad rows.
    """
    if not result.rows:
        raise ValueError(
            f"{result.source}: its files have no rows; fetch them again, or give another folder with --root"
        )
    share = len(result.bad) / result.rows
    if share > max_bad:
        quoted = "\n".join(f"  {row.place}: {row.reason}" for row in result.bad[:TOLD_ROWS])
        raise ValueError(
            f"{result.source}: {len(result.bad)} of {result.rows} rows are bad ({share:.2%}), more than the "
            f"{max_bad:.2%} that --max-bad allows\n{quoted}" + (f"\nall of them: {listed}" if listed else "")
        )


def read(
    source: Source, root: Path, store: ImageStore | None, result: Ingested, judge_above_words: int | None = None
) -> Iterator[Problem]:
    """The source's problems one by one; bad and unwanted rows go into `result`.

    A short text of more than `judge_above_words` words is for a judge; None leaves all of them to the rules.
    Without a store the images are not looked at: a check of the rows alone, of which the images are left out.
    """
    folder = PictureFolder(root, source.folders, store.limits.max_bytes if store else 0)
    if store is not None:
        folder.archives()  # a damaged archive is one message about a file, not one about every row
    seen: dict[str, str] = {}
    for place, row in rows(root, source):
        result.rows += 1
        try:
            made = source.draft(source.row.model_validate(row))
            if made.id in seen:
                raise ValueError(f"id: {shown(made.id)} is already the id of {seen[made.id]}; each id must be unique")
            seen[made.id] = place
            kind = with_judge(made.answer.kind, made.answer.text, judge_above_words)
            made = replace(made, answer=replace(made.answer, kind=kind))
            problem, rule = _problem(source, made, folder, store), rule_of(kind, made.answer.text)
        except Unwanted as left_out:
            result.unwanted.append(BadRow(place=place, reason=str(left_out)))
        except ValidationError as error:
            result.bad.append(BadRow(place=place, reason=reasons(error)))
        except OSError:
            raise  # the disk's fault
        except Exception as error:  # whatever a row does to the code that reads it, it costs that row alone
            reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            result.bad.append(BadRow(place=place, reason=reason))
        else:
            result.answer_types[kind] += 1
            result.answer_rules[rule] += 1
            yield problem


def inert_question(question: str, pictures: int) -> str:
    """The question whose `<image>` stands for its pictures; they come first where the source has none of these markers.

    What else looks like a marker is text: verl's dataset would look for a video, a chat template would add an image
    token.
    """
    marked = question if IMAGE in question else IMAGE * pictures + question
    return IMAGE.join(map(inert, marked.split(IMAGE)))


def _problem(source: Source, made: Draft, folder: PictureFolder, store: ImageStore | None) -> Problem:
    if store is None:
        images = tuple("unread" for _ in made.pictures)
    else:
        encoded = [folder.read(picture) if isinstance(picture, str) else picture for picture in made.pictures]
        images = tuple(store.add(data).sha256 for data in encoded)
    return Problem(
        id=f"{source.name}/{made.id}",
        source=source.name,
        question=inert_question(made.question, len(made.pictures)),
        answer=made.answer.text,
        answer_type=made.answer.kind,
        images=images,
        aliases=made.answer.aliases,
        options=made.answer.options,
        metadata=dict(made.metadata),
    )
