"""Problem: the one record that every source is turned into, and every later stage speaks.

source row -> Problem -> problems.jsonl (one object per line) -> read_problems() -> dedup, teacher, filter
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from verl_axpo.data.validation import parser
from verl_axpo.eval.types import AnswerType
from verl_axpo.files import read_lines, write_lines
from verl_axpo.prompts import IMAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One question with its ground truth.

    `question` is the user turn, `<image>` standing for the next of `images` (SHA-256 of the encoded file, in the
    `ImageStore`). `aliases` are further answers that count as right, `options`
    the texts of a choice, from A on. `metadata` holds what a source knows beyond that
    and nothing depends on: category, pass rates, the dataset it came from.

    Example: `Problem(id="fvqa/fvqa_train_3", source="fvqa", question="<image>Which city is this?",
    images=("9f86d0...",), answer="Sochi", answer_type="short_text")`
    """

    id: str
    source: str
    question: str
    answer: str
    answer_type: AnswerType
    images: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("id", "question", "answer"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name}: is empty; give its text")
        if wrong := miscounted([self.question], len(self.images)):
            raise ValueError(f"question: got {wrong}")


def miscounted(texts: Sequence[object], images: int) -> str | None:
    """In words that a conversation's texts have another number of `<image>` than there are images; None where the
    numbers agree, or where a text is a list of parts, which verl's dataset does not cut."""
    placeholders = sum(text.count(IMAGE) for text in texts if isinstance(text, str))
    if placeholders == images or not all(isinstance(text, str) for text in texts):
        return None
    return f"{placeholders} {IMAGE} for {images} image(s), expected one each"


_parse = parser(Problem)


def write_problems(path: Path, problems: Iterable[Problem]) -> int:
    """Write one JSON object per line, whole or not at all; returns how many."""
    return write_lines(path, (orjson.dumps(problem) for problem in problems))


def read_problems(path: Path) -> Iterator[Problem]:
    """The problems of a file.

    Raises:
        ValueError: a line that is no problem; names file, line and what is wrong.
        FileNotFoundError: no such file.
    """
    return (line.value for line in read_lines(path, _parse, at_once=True))
