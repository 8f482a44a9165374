"""An evaluation's folder: every rollout and score is a line on disk as soon as it exists.

    manifest.json            the settings (manifest.py)
    questions/<name>.jsonl   the questions of each benchmark; the manifest has the file's hash
    rollouts.jsonl           a line per rollout; a later line of the same rollout replaces an earlier one
    scores.jsonl             a line per verdict on a line of rollouts.jsonl; the last that decides counts
    images/                  pictures of questions and tools, each stored once
    report.*                 what the lines say; whoever changes a line or a setting takes the report away first

A killed run leaves at most one torn last line in each file, which the next run removes. A damaged line costs itself:
readers leave it out and say so, and what it held is sampled or scored again. One process writes at a time.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from verl_axpo.core.types import Status
from verl_axpo.eval import versions
from verl_axpo.eval.types import (
    Key,
    Question,
    RecordT,
    RolloutRecord,
    Score,
    ScoreRecord,
    bytes_hash,
    from_line,
    questions_file,
    to_line,
)
from verl_axpo.files import Line, append_lines, inside, mend_end, read_lines, write_atomically
from verl_axpo.image_store import store_encoded
from verl_axpo.lock import take_lock

MANIFEST, ROLLOUTS, SCORES, QUESTIONS = "manifest.json", "rollouts.jsonl", "scores.jsonl", "questions"
REPORT = ("report.md", "report.json", "report.html")  # the first is written last: where it is, the others are


def drop_report(folder: Path, name: str = "report") -> None:
    """Take the report away before what it rests on changes, with its files in NAME/tables and NAME/plots: a run that
    dies in between leaves no old report."""
    for file in REPORT:
        (folder / f"{name}{Path(file).suffix}").unlink(missing_ok=True)
    if (folder / name).is_dir():  # only what a report writes: the folder may hold something else
        for kind in ("tables/*.csv", "tables/*.json", "plots/*.svg", "plots/*.png"):
            for path in (folder / name).glob(kind):
                path.unlink()


def file_hash(path: Path) -> str | None:
    """Names what a small file holds; None if it is not there."""
    return bytes_hash(path.read_bytes()) if path.exists() else None


class Store:
    """The folder of one evaluation. As a context it is open for writing, by this process alone.

    Attributes:
        statuses: how each rollout on disk ended; an `infra_failure` is to be tried again.
        scores: on each rollout the last verdict of today's rules; a verdict that nobody could give hides none.
        unjudged: rollouts whose verdict a judge may still turn: a rule gave it without a judge to ask.
        refused: of the rollouts that a judge or scorer failed on last, why.
        unanswered: the rollouts without an answer, which no judge can find right.
        outdated: rollouts whose verdicts are all of other rules.
        damaged: one sentence for each line that no reader understands.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.version = versions.scoring()
        self.statuses: dict[Key, Status] = {}
        self.scores: dict[Key, Score] = {}
        self.unjudged: set[Key] = set()
        self.unanswered: set[Key] = set()
        self.refused: dict[Key, str] = {}
        self.outdated: dict[Key, str] = {}
        self.damaged: list[str] = []
        self._lines: dict[Key, tuple[int, str]] = {}  # where the rollout's line begins, and its hash
        self._lock: BinaryIO | None = None
        self._disk: ThreadPoolExecutor | None = None  # one thread: lines do not mix, the event loop does not wait

    def __enter__(self) -> "Store":
        """Raises ValueError when another process writes there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = (self.folder / ".lock").open("wb")
        if not take_lock(lock):
            lock.close()
            raise ValueError(f"{self.folder}: another evaluation is writing there; wait for it or use another --out")
        self._lock, self._disk = lock, ThreadPoolExecutor(max_workers=1, thread_name_prefix="rollouts")
        for name in (ROLLOUTS, SCORES):
            mend_end(self.folder / name)
        return self.load()

    def __exit__(self, *_: object) -> None:
        assert self._lock is not None
        assert self._disk is not None
        self._disk.shutdown()  # waits for the lines that are queued
        self._lock.close()
        self._lock = self._disk = None

    def load(self) -> "Store":
        """Read what is there; for readers, a torn last line (a run in progress) is not there yet."""
        for line in _whole_lines(self.folder / ROLLOUTS, RolloutRecord, self.damaged):
            self._note(line.value, line.offset, line.data)
        for verdict in _whole_lines(self.folder / SCORES, ScoreRecord, self.damaged):
            self._note_score(verdict.value)
        return self

    # ------------------------------ writing ------------------------------

    async def add_rollout(self, record: RolloutRecord) -> None:
        """Append; on disk when this returns."""
        line = to_line(record)
        self._note(record, await self._append(ROLLOUTS, line), line)

    async def add_score(self, key: Key, score: Score, *, judge: bool = False) -> None:
        """Append; on disk when this returns. `judge`: no judge may come later and say otherwise."""
        of = self._lines[key][1] if key in self._lines else None
        name, uid, rollout = key
        record = ScoreRecord(
            benchmark=name, uid=uid, rollout=rollout, score=score, judge=judge, version=self.version, of=of
        )
        await self._append(SCORES, to_line(record))
        self._note_score(record)

    def add_questions(self, benchmark: str, questions: Sequence[Question], digest: str | None = None) -> None:
        """Write a benchmark's questions, and before them their pictures.

        Args:
            benchmark: its name.
            questions: all of them. They replace others that were never sampled; `open_manifest` refuses other changes.
            digest: the hash that the file has once they are there (`Manifest.benchmarks[name]["file"]`).
        """
        path = self.folder / QUESTIONS / f"{benchmark}.jsonl"
        if digest is not None and file_hash(path) == digest:
            return
        drop_report(self.folder)
        for image in (image for question in questions for image in question.images):
            store_encoded(self.folder, image)
        write_atomically(path, questions_file(questions))

    async def _append(self, name: str, line: bytes) -> int:
        """Append a line after any older report is gone; returns where the line begins."""

        def append() -> int:
            drop_report(self.folder)
            return append_lines(self.folder / name, [line], flush=True)

        # A rollout whose run is being stopped is still worth its line
        writing = asyncio.get_running_loop().run_in_executor(self._disk, append)
        written = asyncio.shield(writing)
        for future in (writing, written):
            # A full disk fails several writes at once; the first ends the run, the others must not print a traceback
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await written

    def _note(self, record: RolloutRecord, offset: int, line: bytes) -> None:
        self.scores.pop(record.key, None)  # was of an earlier line
        self.statuses[record.key] = record.status
        (self.unanswered.add if record.answer is None else self.unanswered.discard)(record.key)
        self._lines[record.key] = offset, bytes_hash(line)

    def _note_score(self, record: ScoreRecord) -> None:
        key, score = record.key, record.score
        if record.version != self.version:
            if key not in self.scores:
                self.outdated[key] = record.version
            return
        if record.of != (self._lines[key][1] if key in self._lines else None):
            return  # of a line that is not there any more
        self.outdated.pop(key, None)
        if score.correct is None:
            self.refused[key] = score.reason
            if key in self.scores and self.scores[key].correct is not None:
                return
        else:
            self.refused.pop(key, None)
        self.scores[key] = score
        (self.unjudged.discard if record.judge else self.unjudged.add)(key)

    # ------------------------------ reading ------------------------------

    def verdict(self, key: Key, *, has_judge: bool) -> Score | None:
        """The last; undecided where a rule calls the answer wrong, and the evaluation's judge has still to decide."""
        score = self.scores.get(key)
        if score is None or not (has_judge and self.ruled_out(key) and key not in self.unanswered):
            return score
        reason = self.refused.get(key, "no judge was asked")
        return replace(score, correct=None, by="nobody", reason=f"wrong by rule; {reason}")

    def ruled_out(self, key: Key) -> bool:
        """Whether a rule alone calls the answer wrong, and a judge may still say otherwise."""
        score = self.scores.get(key)
        return key in self.unjudged and score is not None and score.by == "rule" and score.correct is False

    def questions(self, benchmark: str) -> list[Question]:
        """A benchmark's questions, in its order.

        Raises:
            ValueError: a line of them is damaged; the next run writes the file again.
        """
        damaged: list[str] = []
        path = inside(self.folder, f"{QUESTIONS}/{benchmark}.jsonl")
        questions = [line.value for line in _whole_lines(path, Question, damaged)]
        if damaged:
            raise ValueError(f"{self.folder}: {damaged[0]}; run the same `verl-axpo eval run` again")
        return questions

    def rollouts(self, wanted: Callable[[Key], bool] = lambda key: True) -> Iterator[RolloutRecord]:
        """The last line of each rollout, one at a time: an evaluation's texts need not fit into memory."""
        offsets = sorted(offset for key, (offset, _) in self._lines.items() if wanted(key))
        if not offsets:
            return
        with (self.folder / ROLLOUTS).open("rb") as file:
            for offset in offsets:
                file.seek(offset)
                yield from_line(RolloutRecord, file.readline())


def _whole_lines(path: Path, kind: type[RecordT], damaged: list[str]) -> Iterator[Line[RecordT]]:
    return read_lines(path, partial(from_line, kind), damaged) if path.exists() else iter(())
