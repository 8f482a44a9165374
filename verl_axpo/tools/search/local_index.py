"""The embedded engine: full-text search (SQLite FTS5, BM25) over a folder of documents.

    *.txt, *.md    one document each, titled by its first line    -> passages -> index-<fingerprint>.sqlite3 -> hits
    *.jsonl        one document per line: text or content, title and url optional

The index is built once for each state of the folder: one process writes it next to its final place while the
others wait, and moves it there whole. A process that dies while it builds leaves nothing that is ever read.
"""

import hashlib
import json
import os
import re
import sqlite3
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from verl_axpo.tools.search.hits import Hit
from verl_axpo.tools.text import utf8

SUFFIXES = (".txt", ".md", ".jsonl")
PASSAGE_CHARS = 1_200  # one passage of a document: about what Tavily returns for one page
FORMAT = 2  # of the index; raise it when its content changes, so that old indexes are built again
TITLE_WEIGHT, TEXT_WEIGHT = 2.0, 1.0  # of a word found there, in BM25
_SCHEMA = """
CREATE VIRTUAL TABLE passages USING fts5(
    title, text, url UNINDEXED, tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE TABLE about (content_hash TEXT, documents INTEGER);
CREATE TABLE frequencies (term TEXT PRIMARY KEY, passages INTEGER) WITHOUT ROWID;
"""
_COUNT = """
CREATE VIRTUAL TABLE temp.terms USING fts5vocab(main, passages, row);
INSERT INTO frequencies SELECT term, doc FROM temp.terms;
"""
# The sorter holds numbers alone; a passage's text is read when it is among the best
_SEARCH = """
SELECT rowid, bm25(passages, ?, ?) AS distance FROM passages WHERE passages MATCH ? ORDER BY distance, rowid
"""
_PASSAGE = "SELECT title, url, text FROM passages WHERE rowid = ?"
# Passages that one query ranks, at most, beyond those of its rarest word: a word that most passages have costs time and
# tells nothing. Smaller folders are ranked by every word.
RANKED_PASSAGES = 4_000
_TERMS = """
CREATE VIRTUAL TABLE word USING fts5(text, tokenize = 'porter unicode61 remove_diacritics 2');
CREATE VIRTUAL TABLE terms USING fts5vocab(word, row);
"""


class Document(NamedTuple):
    """One source."""

    title: str
    url: str
    text: str


class LocalIndex:
    """Search over the documents under a folder.

    Args:
        documents: searched recursively for files ending in one of SUFFIXES.
        folder: where the index is kept, on a local disk; the documents themselves may be read-only.

    Raises:
        ValueError: no document there, or one that cannot be read.
    """

    def __init__(self, documents: Path, folder: Path) -> None:
        files = sorted(path for path in documents.rglob("*") if path.suffix in SUFFIXES and path.is_file())
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"index-{_fingerprint(documents, files)}.sqlite3"
        with FileLock(self.path.with_suffix(".lock")):
            if not self.path.exists():
                _build(self.path, _read(documents, files))
        with closing(self._connect()) as connection:
            self.content_hash, self.num_documents = connection.execute("SELECT * FROM about").fetchone()

    def search(self, query: str, max_results: int) -> list[Hit]:
        """The best passage of each of the best documents, best first; any string is a valid query.

        Raises:
            sqlite3.Error: the index is gone or damaged.
        """
        best: dict[str, Hit] = {}
        with closing(self._connect()) as connection:
            # An FTS5 expression for any of the words: each quoted, so that no word is an operator
            match = " OR ".join(f'"{word}"' for word in _selective(connection, query))
            if match:
                for row, distance in connection.execute(_SEARCH, (TITLE_WEIGHT, TEXT_WEIGHT, match)):
                    title, url, text = connection.execute(_PASSAGE, (row,)).fetchone()
                    # bm25() is negative, lower is better; the squashing keeps Tavily's range
                    best.setdefault(url, Hit(title=title, url=url, content=text, score=distance / (distance - 1)))
                    if len(best) == max_results:
                        break
        return list(best.values())

    def _connect(self) -> sqlite3.Connection:
        # A connection per query costs 0.1 ms and belongs to no thread and no fork; nobody ever writes to the file
        return sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)


def _selective(connection: sqlite3.Connection, query: str) -> list[str]:
    """The query's rarest words that together are in at most RANKED_PASSAGES passages, and the rarest in any case."""
    counts = {word: count for word, count in _counted(connection, query) if count}
    chosen: list[str] = []
    ranked = 0
    for word in sorted(counts, key=lambda word: counts[word]):
        ranked += counts[word]
        if chosen and ranked > RANKED_PASSAGES:
            break
        chosen.append(word)
    return chosen


def _counted(connection: sqlite3.Connection, query: str) -> Iterator[tuple[str, int]]:
    """Each word of the query with the number of passages that have its rarest term."""
    with closing(sqlite3.connect(":memory:")) as tokenizer:
        tokenizer.executescript(_TERMS)
        for word in dict.fromkeys(re.findall(r"\w+", query)):
            tokenizer.execute("DELETE FROM word")
            tokenizer.execute("INSERT INTO word VALUES (?)", (utf8(word),))
            terms = [term for (term,) in tokenizer.execute("SELECT term FROM terms")]
            counted = "SELECT passages FROM frequencies WHERE term = ?"
            counts = [connection.execute(counted, (term,)).fetchone() for term in terms]
            yield word, min((count[0] if count else 0 for count in counts), default=0)


def _fingerprint(documents: Path, files: Iterable[Path]) -> str:
    """Changes when a file is added, removed, renamed or written; reads no contents, so that starting is fast."""
    total = hashlib.sha256(f"{FORMAT} {documents.resolve()}".encode())
    for path in files:
        status = path.stat()
        total.update(f"{path.relative_to(documents)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return total.hexdigest()[:16]


def _build(path: Path, documents: Iterator[Document]) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)  # of a process that died; we hold the lock
    total, stored = hashlib.sha256(), 0
    with closing(sqlite3.connect(unfinished)) as connection:
        connection.executescript(_SCHEMA)
        for document in documents:
            stored += 1
            total.update((json.dumps(document) + "\n").encode())
            rows = ((document.title, passage, document.url) for passage in passages(document.text))
            connection.executemany("INSERT INTO passages (title, text, url) VALUES (?, ?, ?)", rows)
        if not stored:
            raise ValueError(f"documents: no text in any {', '.join(SUFFIXES)} file of that folder")
        connection.execute("INSERT INTO passages (passages) VALUES ('optimize')")
        connection.executescript(_COUNT)
        connection.execute("INSERT INTO about VALUES (?, ?)", (total.hexdigest(), stored))
        connection.commit()
    os.replace(unfinished, path)


def passages(text: str) -> Iterator[str]:
    """Runs of whole paragraphs of at most PASSAGE_CHARS; a longer paragraph is split between words."""
    run = ""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        pieces = textwrap.wrap(paragraph, PASSAGE_CHARS) if len(paragraph) > PASSAGE_CHARS else [paragraph]
        for piece in pieces:
            if run and len(run) + len(piece) + 2 > PASSAGE_CHARS:
                yield run
                run = ""
            run = f"{run}\n\n{piece}" if run else piece
    if run:
        yield run


def _read(documents: Path, files: Iterable[Path]) -> Iterator[Document]:
    for path in files:
        name = path.relative_to(documents).as_posix()
        try:
            if path.suffix == ".jsonl":
                yield from _lines(path, name)
            elif text := path.read_text(encoding="utf-8").strip():
                yield Document(text.splitlines()[0].lstrip("# ")[:200], name, text)
        except UnicodeDecodeError as error:
            raise ValueError(f"documents: {path} is not UTF-8 ({error}); convert or remove it") from error


def _lines(path: Path, name: str) -> Iterator[Document]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError):
                fields = None
            text = (fields.get("text") or fields.get("content")) if isinstance(fields, dict) else None
            if not isinstance(text, str):
                raise ValueError(
                    f"documents: {path}, line {number}: expected a JSON object with a string `text` or "
                    f"`content` (and optional `title` and `url`), got {line.strip()[:80]!r}"
                )
            url = str(fields.get("url") or f"{name}#{number}")
            yield Document(*map(utf8, (str(fields.get("title") or url), url, text)))
