"""A question of a step as a tree on its own: rollouts, and under a source its continuations, for a run's loggers.

records of a step -> examples() -> TracedQuestion -> tree() -> Tree -> .html (W&B, MLflow), .markdown (TensorBoard)
"""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image

from verl_axpo.files import inside
from verl_axpo.images import ImageRefused, open_image
from verl_axpo.report.build import templates
from verl_axpo.report.viewer import first_call, inert, split_at_call
from verl_axpo.trace.reader import TracedQuestion, questions_of
from verl_axpo.trace.records import TrajectoryRecord

MOST_PICTURES = 8  # of a question: one or two that were asked about, and the first crops
PICTURE_PX = 640  # the longer side; the full picture is in the trace
JPEG_QUALITY = 75
MOST_CHARACTERS = 4000  # of a trajectory's text; a thinking of 8,192 tokens has ten times as many


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture that the question showed, or that a tool returned; the longer side at most `PICTURE_PX`."""

    caption: str
    image: Image.Image

    @property
    def data(self) -> str:
        """JPEG in base64."""
        buffer = io.BytesIO()
        self.image.save(buffer, format="JPEG", quality=JPEG_QUALITY)
        return base64.b64encode(buffer.getvalue()).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A trajectory as it is shown; `pictures` are the numbers of those that its tools returned, from 1."""

    record: TrajectoryRecord
    pictures: tuple[int, ...]

    @property
    def title(self) -> str:
        record = self.record
        if record.source_session is not None:
            return f"continuation {record.session} of rollout {record.source_session}"
        return f"rollout {record.session}" + (", source" if record.selected else "")

    @property
    def facts(self) -> dict[str, str]:
        record = self.record
        measured = {"reward": record.reward, "advantage": record.advantage, "confidence": record.confidence}
        return {
            **{name: f"{value:.4g}" for name, value in measured.items() if value is not None},
            **({} if record.recovery is None else {"recovery": str(record.recovery)}),
            "status": record.status.value,
            "first call": inert(first_call(record)),
        }

    @property
    def text(self) -> tuple[str, str]:
        """Prefix and rest; without a call all is rest."""
        before, after = map(inert, split_at_call(self.record))
        if self.record.prefix_len is None:
            return "", before[:MOST_CHARACTERS]
        return before[-MOST_CHARACTERS:], after[:MOST_CHARACTERS]


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A question with its branches, a source before its continuations."""

    question: TracedQuestion
    pictures: Sequence[Picture]
    branches: Sequence[Branch]

    @cached_property
    def html(self) -> str:
        """A page that needs nothing else; whatever a policy wrote is escaped."""
        return templates().get_template("tree.html.jinja").render(tree=self)

    @cached_property
    def markdown(self) -> str:
        """A table for a page that shows the pictures elsewhere."""
        return templates().get_template("tree.md.jinja").render(tree=self)

    @property
    def asked(self) -> TrajectoryRecord:
        """Any record: each has the question, its answer and the step."""
        return self.question.records[0]


def examples(records: Sequence[TrajectoryRecord], most: int) -> list[TracedQuestion]:
    """At most `most` questions of a step whose prefixes were resampled, the restored ones first."""
    return sorted((each for each in questions_of(records) if each.sources), key=lambda each: not each.restored)[:most]


def tree(question: TracedQuestion, trace_dir: Path) -> Tree:
    """The question with the pictures that its trace has; one that cannot be read is left out."""
    asked = question.images
    branches = [(record, record.images[len(asked) :]) for record in _in_order(question)]
    shown = {path: "question" for path in asked}
    for record, returned in branches:
        shown.update({path: f"tool, session {record.session}" for path in returned if path not in shown})
    pictures: dict[str, Picture] = {}
    for path, caption in shown.items():
        image = _thumbnail(inside(trace_dir, path)) if len(pictures) < MOST_PICTURES else None
        if image is not None:
            pictures[path] = Picture(caption=f"{len(pictures) + 1}: {caption}", image=image)
    numbers = {path: number for number, path in enumerate(pictures, start=1)}
    return Tree(
        question=question,
        pictures=tuple(pictures.values()),
        branches=tuple(
            Branch(record=record, pictures=tuple(numbers[path] for path in returned if path in numbers))
            for record, returned in branches
        ),
    )


def _in_order(question: TracedQuestion) -> Iterator[TrajectoryRecord]:
    for record in question.rollouts:
        yield record
        yield from question.continuations(record.session)


def _thumbnail(path: Path) -> Image.Image | None:
    """None where the file is missing or no picture."""
    try:
        picture = open_image(path, enough=PICTURE_PX)
    except ImageRefused:
        return None
    picture.thumbnail((PICTURE_PX, PICTURE_PX))
    return picture
