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
from verl_axpo.eval.records import QuestionRecord, RolloutRecord
from verl_axpo.eval.report.results import Evaluation, Result
from verl_axpo.eval.store import Store
from verl_axpo.eval.types import Score
from verl_axpo.images import ImageRefused, open_image

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
        self._pictures: dict[str, int] = {}  # path -> number

    def index(self) -> str:
        """JSON: each benchmark's questions as [uid, words, truth, marks, blob's id or null]."""
        benchmarks = [
            {
                "name": result.name,
                "column": result.column,
                "questions": list(self._lines(result, number)),
            }
            for number, result in enumerate(self.evaluation.results)
        ]
        # Inside a script element "</script" must not occur
        return json.dumps(benchmarks).replace("<", "\\u003c")

    def blobs(self) -> Iterator[Blob]:
        """One per question that is shown in full; rollouts are read from disk benchmark by benchmark."""
        for number, result in enumerate(self.evaluation.results):
            rollouts: dict[str, list[RolloutRecord]] = defaultdict(list)
            shown = self.shown[result.name]

            def wanted(key: tuple[str, str, int], name: str = result.name, uids: frozenset[str] = shown) -> bool:
                return key[0] == name and key[1] in uids

            for record in self.store.rollouts(wanted):
                rollouts[record.uid].append(record)
            for place, uid in enumerate(result.uids):
                if uid in shown:
                    found = sorted(rollouts[uid], key=lambda one: one.rollout)
                    yield Blob(id=_blob_id(number, place), data=_packed(self._detail(result.name, uid, found)))

    def pictures(self) -> Iterator[Blob]:
        """Those that the blobs have named, each once, as JPEG."""
        for path, number in self._pictures.items():
            yield Blob(id=f"i{number}", data=small(self.store.folder / path))

    def _lines(self, result: Result, number: int) -> Iterator[list[Any]]:
        marks: dict[str, dict[int, str]] = defaultdict(dict)
        for row in result.rows:
            marks[row.uid][row.rollout] = _mark(row.status, row.correct) + ("t" if row.uses_tool else "")
        for place, uid in enumerate(result.uids):
            question = self._questions[result.name][uid]
            words = " ".join(question.prompt.replace("<image>", " ").split())[:MOST_CHARACTERS]
            blob = _blob_id(number, place) if uid in self.shown[result.name] else None
            some = [marks[uid].get(at, ".") for at in range(result.rollouts)]
            yield [uid, words, question.ground_truth, some, blob]

    def _detail(self, benchmark: str, uid: str, rollouts: Sequence[RolloutRecord]) -> dict[str, Any]:
        question: QuestionRecord = self._questions[benchmark][uid]
        return {
            "prompt": question.prompt,
            "truth": question.ground_truth,
            "type": question.answer_type,
            "images": self._numbers(question.images),
            "rollouts": [self._rollout(one, self.store.scores.get(one.key)) for one in rollouts],
        }

    def _rollout(self, record: RolloutRecord, score: Score | None) -> dict[str, Any]:
        turns = [
            {
                "text": turn.text,
                "calls": [asdict(call) for call in turn.calls],
                "responses": [{"text": one.text, "images": self._numbers(one.images)} for one in turn.responses],
                "tokens": turn.completion_tokens,
                "finish": turn.finish_reason,
            }
            for turn in record.turns
        ]
        kept = {"rollout": record.rollout, "status": record.status.value, "answer": record.answer}
        return {**kept, "error": record.error, "score": asdict(score) if score else None, "turns": turns}

    def _numbers(self, paths: Sequence[str]) -> list[int]:
        return [self._pictures.setdefault(path, len(self._pictures)) for path in paths]


def _blob_id(benchmark: int, place: int) -> str:
    return f"q{benchmark}-{place}"


def _mark(status: Status, correct: bool | None) -> str:
    """c: correct, w: wrong, u: unscored, f: failed for no fault of the policy."""
    if status is Status.INFRA_FAILURE:
        return "f"
    return "u" if correct is None else "c" if correct else "w"


def _spread(uids: Sequence[str], count: int) -> frozenset[str]:
    """At most `count` of them, evenly spread from the first on."""
    if count >= len(uids):
        return frozenset(uids)
    return frozenset(uids[at * len(uids) // count] for at in range(count))


def _packed(value: Any) -> str:
    return base64.b64encode(gzip.compress(json.dumps(value, default=str).encode(), GZIP_LEVEL, mtime=0)).decode()


def small(path: Path) -> str:
    """A JPEG of at most `PICTURE_PX`; empty where the file is missing or no picture."""
    try:
        picture = open_image(path, enough=PICTURE_PX)
    except ImageRefused:
        return ""
    picture.thumbnail((PICTURE_PX, PICTURE_PX))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()
