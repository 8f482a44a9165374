"""An evaluation's folder: every rollout and score a line on disk the moment it is there.

    manifest.json            the settings (manifest.py)
    questions/<name>.jsonl   the questions of each benchmark
    rollouts.jsonl           a line per rollout; a later line of the same rollout replaces an earlier one
    scores.jsonl             a line per verdict, likewise
    images/                  pictures of questions and tools, each stored once

A killed run leaves at most one torn last line in each file, which the next one removes. One process writes at a time.
"""

import asyncio
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from verl_axpo.core.types import Status
from verl_axpo.eval.manifest import ROLLOUTS
from verl_axpo.eval.records import (
    Key,
    QuestionRecord,
    RecordT,
    RolloutRecord,
    ScoreRecord,
    from_line,
    to_line,
)
from verl_axpo.eval.types import Question, Score
from verl_axpo.trace.writer import append_lines, write_atomically

SCORES, QUESTIONS = "scores.jsonl", "questions"
HASH_CHARACTERS = 32  # 128 bits of SHA-256
IMAGE_SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp", b"GIF8": ".gif"}


class Store:
    """The folder of one evaluation. As a context it is open for writing, by this process alone.

    Attributes:
        statuses: how each rollout on disk ended; an `infra_failure` is to be tried again.
        scores: the last verdict on each rollout.
        unjudged: those of them that were given without a judge to ask.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.statuses: dict[Key, Status] = {}
        self.scores: dict[Key, Score] = {}
        self.unjudged: set[Key] = set()
        self._offsets: dict[Key, int] = {}  # of the rollout's line
        self._lock: BinaryIO | None = None
        self._disk: ThreadPoolExecutor | None = None  # one thread: lines do not mix, the event loop does not wait

    def __enter__(self) -> "Store":
        """Raises ValueError when another process writes there, or a line that is not the last is damaged."""
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
        for offset, rollout in read_lines(self.folder / ROLLOUTS, RolloutRecord):
            self._note(rollout, offset)
        for _, score in read_lines(self.folder / SCORES, ScoreRecord):
            self._note_score(score)
        return self

    # ------------------------------ writing ------------------------------

    async def add_rollout(self, record: RolloutRecord) -> None:
        """Append; on disk when this returns."""
        self._note(record, await self._append(ROLLOUTS, to_line(record)))

    async def add_score(self, key: Key, score: Score, *, judge: bool = False) -> None:
        """Append; on disk when this returns. `judge`: there was one to ask."""
        benchmark, uid, rollout = key
        record = ScoreRecord(benchmark=benchmark, uid=uid, rollout=rollout, score=score, judge=judge)
        await self._append(SCORES, to_line(record))
        self._note_score(record)

    def add_questions(self, benchmark: str, questions: Sequence[Question]) -> None:
        """Write a benchmark's questions and their pictures, once."""
        path = self.folder / QUESTIONS / f"{benchmark}.jsonl"
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [to_line(_question_record(one, [self._store(image) for image in one.images])) for one in questions]
        write_atomically(path, b"".join(line + b"\n" for line in lines))

    async def _append(self, name: str, line: bytes) -> int:
        # A rollout whose run is being stopped is still worth its line
        loop = asyncio.get_running_loop()
        writing = loop.run_in_executor(self._disk, append_line, self.folder / name, line)
        written = asyncio.shield(writing)
        for future in (writing, written):
            # A full disk fails several writes at once; the first ends the run, the others must not print a traceback
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await written

    def _store(self, image: bytes) -> str:
        suffix = next((suffix for magic, suffix in IMAGE_SUFFIXES.items() if image.startswith(magic)), ".img")
        relative = f"images/{hashlib.sha256(image).hexdigest()[:HASH_CHARACTERS]}{suffix}"
        path = self.folder / relative
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, image)
        return relative

    def _note(self, record: RolloutRecord, offset: int) -> None:
        self.statuses[record.key] = record.status
        self._offsets[record.key] = offset

    def _note_score(self, record: ScoreRecord) -> None:
        self.scores[record.key] = record.score
        (self.unjudged.discard if record.judge else self.unjudged.add)(record.key)

    def ruled_out(self, key: Key) -> bool:
        """Whether a rule alone has found the answer wrong, without a judge behind it."""
        score = self.scores.get(key)
        return key in self.unjudged and score is not None and score.by == "rule" and score.correct is False

    # ------------------------------ reading ------------------------------

    def questions(self, benchmark: str) -> list[QuestionRecord]:
        """A benchmark's questions, in its order."""
        path = self.folder / QUESTIONS / f"{benchmark}.jsonl"
        return [record for _, record in read_lines(path, QuestionRecord)]

    def rollouts(self, wanted: Callable[[Key], bool] = lambda key: True) -> Iterator[RolloutRecord]:
        """The last line of each rollout, one at a time: an evaluation's texts need not fit into memory."""
        ordered = sorted((offset, key) for key, offset in self._offsets.items() if wanted(key))
        if not ordered:
            return
        with (self.folder / ROLLOUTS).open("rb") as file:
            for offset, _ in ordered:
                file.seek(offset)
                yield from_line(RolloutRecord, file.readline())


def append_line(path: Path, line: bytes) -> int:
    """Append one line and flush it to the disk; returns where it begins."""
    offset = path.stat().st_size if path.exists() else 0
    append_lines(path, [line])
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return offset


def read_lines(path: Path, kind: type[RecordT]) -> Iterator[tuple[int, RecordT]]:
    """(offset, record) of every whole line.

    Raises:
        ValueError: a line is damaged; the message has its number.
    """
    if not path.exists():
        return
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield offset, from_line(kind, line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}; restore the file or delete that line") from error
            offset += len(line)


def repair(path: Path) -> int:
    """Cut a torn last line, which a killed run left; returns the bytes removed."""
    if not path.exists():
        return 0
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        keep = _end_of_last_line(file, size)
        file.truncate(keep)
    return size - keep


def _end_of_last_line(file: BinaryIO, size: int, block: int = 1 << 16) -> int:
    """Searched from the end: the file may have gigabytes."""
    end = size
    while end > 0:
        start = max(0, end - block)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _question_record(question: Question, images: Sequence[str]) -> QuestionRecord:
    return QuestionRecord(
        benchmark=question.benchmark,
        uid=question.uid,
        prompt=question.prompt,
        ground_truth=question.ground_truth,
        answer_type=question.answer_type,
        images=tuple(images),
        options=question.options,
        metadata=question.metadata,
    )
