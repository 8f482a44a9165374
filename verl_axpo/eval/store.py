"""An evaluation's folder: every rollout and score a line on disk the moment it is there.

    manifest.json            the settings (manifest.py)
    questions/<name>.jsonl   the questions of each benchmark; the manifest has the file's hash
    rollouts.jsonl           a line per rollout; a later line of the same rollout replaces an earlier one
    scores.jsonl             a line per verdict on a line of rollouts.jsonl; the last one that decides counts
    images/                  pictures of questions and tools, each stored once

A killed run leaves at most one torn last line in each file, which the next one removes. A damaged line costs itself:
readers leave it out and say so, and what it held is sampled or scored again. One process writes at a time.
"""

import asyncio
import fcntl
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from verl_axpo.core.types import Status
from verl_axpo.eval import versions
from verl_axpo.eval.folder import QUESTIONS, ROLLOUTS, SCORES, drop_report, inside
from verl_axpo.eval.lines import append_line, file_hash, read_lines, repair
from verl_axpo.eval.records import (
    Key,
    QuestionRecord,
    RolloutRecord,
    ScoreRecord,
    bytes_hash,
    from_line,
    question_record,
    to_line,
)
from verl_axpo.eval.types import Question, Score
from verl_axpo.files import write_atomically


class Store:
    """The folder of one evaluation. As a context it is open for writing, by this process alone.

    Attributes:
        statuses: how each rollout on disk ended; an `infra_failure` is to be tried again.
        scores: on each rollout the last verdict of today's rules; one that nobody could give hides none.
        unjudged: those that a judge may still turn: a rule gave them without a judge to ask.
        refused: of the rollouts that a judge or scorer failed on last, why.
        outdated: rollouts whose verdicts are all of other rules.
        damaged: one sentence for each line that no reader understands.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.version = versions.scoring()
        self.statuses: dict[Key, Status] = {}
        self.scores: dict[Key, Score] = {}
        self.unjudged: set[Key] = set()
        self.refused: dict[Key, str] = {}
        self.outdated: dict[Key, str] = {}
        self.damaged: list[str] = []
        self._offsets: dict[Key, int] = {}  # of the rollout's line
        self._hashes: dict[Key, str] = {}  # likewise
        self._lock: BinaryIO | None = None
        self._disk: ThreadPoolExecutor | None = None  # one thread: lines do not mix, the event loop does not wait

    def __enter__(self) -> "Store":
        """Raises ValueError when another process writes there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = (self.folder / ".lock").open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise ValueError(
                f"{self.folder}: another evaluation is writing there; wait for it or use another --out"
            ) from None
        self._lock, self._disk = lock, ThreadPoolExecutor(max_workers=1, thread_name_prefix="rollouts")
        for name in (ROLLOUTS, SCORES):
            repair(self.folder / name)
        return self.load()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._lock is not None
        assert self._disk is not None
        self._disk.shutdown()  # waits for the lines that are queued
        self._lock.close()
        self._lock = self._disk = None

    def load(self) -> "Store":
        """Read what is there; for readers, a torn last line (a run in progress) is not there yet."""
        for offset, line, rollout in read_lines(self.folder / ROLLOUTS, RolloutRecord, self.damaged):
            self._note(rollout, offset, bytes_hash(line.rstrip(b"\n")))
        for _, _, score in read_lines(self.folder / SCORES, ScoreRecord, self.damaged):
            self._note_score(score)
        return self

    # ------------------------------ writing ------------------------------

    async def add_rollout(self, record: RolloutRecord) -> None:
        """Append; on disk when this returns."""
        line = to_line(record)
        self._note(record, await self._append(ROLLOUTS, line), bytes_hash(line))

    async def add_score(self, key: Key, score: Score, *, judge: bool = False) -> None:
        """Append; on disk when this returns. `judge`: no judge may come later and say otherwise."""
        benchmark, uid, rollout = key
        record = ScoreRecord(
            benchmark=benchmark,
            uid=uid,
            rollout=rollout,
            score=score,
            judge=judge,
            version=self.version,
            of=self._hashes.get(key),
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
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for question in questions:
            record = question_record(question, [hashlib.sha256(image).hexdigest() for image in question.images])
            for image, relative in zip(question.images, record.images, strict=True):
                self._keep(image, self.folder / relative)
            lines.append(to_line(record) + b"\n")
        write_atomically(path, b"".join(lines))

    async def _append(self, name: str, line: bytes) -> int:
        # A rollout whose run is being stopped is still worth its line
        loop = asyncio.get_running_loop()
        writing = loop.run_in_executor(self._disk, append_line, self.folder / name, line)
        written = asyncio.shield(writing)
        for future in (writing, written):
            # A full disk fails several writes at once; the first ends the run, the others must not print a traceback
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await written

    def _keep(self, image: bytes, path: Path) -> None:
        if not path.exists() or path.stat().st_size != len(image):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, image)

    def _note(self, record: RolloutRecord, offset: int, name: str) -> None:
        self.scores.pop(record.key, None)  # was of an earlier line
        self.statuses[record.key] = record.status
        self._offsets[record.key], self._hashes[record.key] = offset, name

    def _note_score(self, record: ScoreRecord) -> None:
        key, score = record.key, record.score
        if record.version != self.version:
            if key not in self.scores:
                self.outdated[key] = record.version
            return
        if record.of != self._hashes.get(key):
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

    def ruled_out(self, key: Key) -> bool:
        """Whether a rule alone has found the answer wrong, and a judge may still say otherwise."""
        score = self.scores.get(key)
        return key in self.unjudged and score is not None and score.by == "rule" and score.correct is False

    # ------------------------------ reading ------------------------------

    def questions(self, benchmark: str) -> list[QuestionRecord]:
        """A benchmark's questions, in its order.

        Raises:
            ValueError: a line of them is damaged; the next run writes the file again.
        """
        damaged: list[str] = []
        path = inside(self.folder, f"{QUESTIONS}/{benchmark}.jsonl")
        found = [record for _, _, record in read_lines(path, QuestionRecord, damaged)]
        if damaged:
            raise ValueError(f"{self.folder}: {damaged[0]}; run the same `verl-axpo eval run` again")
        return found

    def rollouts(self, wanted: Callable[[Key], bool] = lambda key: True) -> Iterator[RolloutRecord]:
        """The last line of each rollout, one at a time: an evaluation's texts need not fit into memory."""
        ordered = sorted((offset, key) for key, offset in self._offsets.items() if wanted(key))
        if not ordered:
            return
        with (self.folder / ROLLOUTS).open("rb") as file:
            for offset, _ in ordered:
                file.seek(offset)
                yield from_line(RolloutRecord, file.readline())
