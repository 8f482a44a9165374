"""Questions and rollouts as the HTML page carries them: nothing is laid out before a reader asks for it.

    Store -> index (one short line per question) + a compressed blob per question + each picture once, made small

The page decompresses a blob when its question is opened, so that thousands of rollouts cost their bytes and no more.
"""

import base64
import gzip
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from verl_axpo.core.types import Status
from verl_axpo.eval.store import Store
from verl_axpo.eval.types import RolloutRecord
from verl_axpo.files import inside
from verl_axpo.images import ImageRefused, open_image
from verl_axpo.report.results import Evaluation, Result, Row

QUESTIONS_IN_FULL = 100  # of each benchmark, spread evenly: with 4 rollouts and their pictures some MB a benchmark
MOST_CHARACTERS = 120  # of a question in a list
PICTURE_PX = 640  # the longer side in the page; the full picture is in the evaluation's folder
JPEG_QUALITY = 75
GZIP_LEVEL = 5  # of 9: a fifth of the time for files a few percent larger


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """Text for an inert script element: base64 only, so that nothing a policy wrote can end it."""

    id: str
    data: str


class Page:
    """What the template asks for, in this order: `index`, `blobs`, `pictures` (those that the blobs named).

    Args:
        evaluation: the numbers.
        store: where the texts are.
        in_full: questions per benchmark whose rollouts the page carries.
    """

    def __init__(self, evaluation: Evaluation, store: Store, in_full: int = QUESTIONS_IN_FULL) -> None:
        self.evaluation, self.store = evaluation, store
        self.shown = {result.name: _spread(result.uids, in_full) for result in evaluation.results}
        self._questions = {
            result.name: {question.uid: question for question in store.questions(result.name)}
            for result in evaluation.results
        }
        self._pictures: dict[str, None] = {}  # paths, in order

    def index(self) -> str:
        """JSON: each benchmark's questions as [uid, words, truth, marks, blob's id or null]."""
        benchmarks = [
            {"name": result.name, "column": result.column, "questions": list(self._lines(result, number))}
            for number, result in enumerate(self.evaluation.results)
        ]
        # Inside a script element "</script" must not occur
        return json.dumps(benchmarks).replace("<", "\\u003c")

    def blobs(self) -> Iterator[Blob]:
        """One per question that is shown in full; rollouts are read from disk benchmark by benchmark."""
        for number, result in enumerate(self.evaluation.results):
            wanted = {(result.name, uid, at) for uid in self.shown[result.name] for at in range(result.rollouts)}
            rollouts: dict[str, list[RolloutRecord]] = defaultdict(list)
            for record in self.store.rollouts(wanted.__contains__):
                rollouts[record.uid].append(record)
            for place, uid in enumerate(result.uids):
                if uid in self.shown[result.name]:
                    records = sorted(rollouts[uid], key=lambda record: record.rollout)
                    yield Blob(id=f"q{number}-{place}", data=_packed(self._detail(result.name, uid, records)))

    def pictures(self) -> Iterator[Blob]:
        """Those that the blobs have named, each once, as JPEG, by their paths."""
        for path in self._pictures:
            try:
                data = small(inside(self.store.folder, path))
            except ValueError:  # a folder may come from somebody else
                data = ""
            yield Blob(id=path, data=data)

    def _lines(self, result: Result, number: int) -> Iterator[list[Any]]:
        marks = {(row.uid, row.rollout): _mark(row) for row in result.rows}
        for place, uid in enumerate(result.uids):
            question = self._questions[result.name][uid]
            words = " ".join(question.prompt.replace("<image>", " ").split())[:MOST_CHARACTERS]
            blob = f"q{number}-{place}" if uid in self.shown[result.name] else None
            yield [
                uid,
                words,
                question.ground_truth,
                [marks.get((uid, at), ".") for at in range(result.rollouts)],
                blob,
            ]

    def _detail(self, benchmark: str, uid: str, records: Sequence[RolloutRecord]) -> dict[str, Any]:
        """The question's record, and under "rollouts" those of its rollouts with their scores."""
        question = self._questions[benchmark][uid]
        self._pictures.update(dict.fromkeys(question.image_paths))
        rollouts = []
        for record in records:
            score = self.store.scores.get(record.key)
            rollouts.append(asdict(record) | {"status": record.status.value, "score": score and asdict(score)})
            for turn in record.turns:
                for response in turn.responses:
                    self._pictures.update(dict.fromkeys(response.images))
        return {**asdict(question), "images": question.image_paths, "rollouts": rollouts}


def _mark(row: Row) -> str:
    """c: correct, w: wrong, u: unscored, f: failed for no fault of the policy; t after it: used a tool."""
    outcome = "u" if row.correct is None else "c" if row.correct else "w"
    return ("f" if row.status is Status.INFRA_FAILURE else outcome) + ("t" if row.uses_tool else "")


def _spread(uids: Sequence[str], count: int) -> frozenset[str]:
    """At most `count` of them, evenly spread from the first on."""
    if count >= len(uids):
        return frozenset(uids)
    return frozenset(uids[at * len(uids) // count] for at in range(count))


def _packed(value: Any) -> str:
    return base64.b64encode(gzip.compress(json.dumps(value, default=str).encode(), GZIP_LEVEL, mtime=0)).decode()


def small(path: Path) -> str:
    """A JPEG of at most `PICTURE_PX`, in base64; empty where the file is missing or no picture."""
    try:
        picture = open_image(path, enough=PICTURE_PX)
    except ImageRefused:
        return ""
    picture.thumbnail((PICTURE_PX, PICTURE_PX))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()
