"""The embedded engine: what it finds, whatever is asked, and how it is built."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from verl_axpo.tools.search.local_index import PASSAGE_CHARS, LocalIndex, passages


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    (folder / "cities").mkdir(parents=True)
    (folder / "cities" / "oslo.md").write_text("# Oslo\n\nOslo is the capital of Norway.\n\nIt lies at a fjord.")
    (folder / "bergen.txt").write_text("Bergen\n\nBergen is a city in Norway, wetter than the capital.")
    (folder / "facts.jsonl").write_text(
        '{"title": "Café", "url": "https://example.org/cafe", "text": "The café of Zürich opens at nine."}\n\n'
        '{"content": "running shoes"}\n'
    )
    (folder / "notes.pdf").write_bytes(b"\xff\xfe not read")
    return folder


@pytest.fixture
def index(documents: Path, tmp_path: Path) -> LocalIndex:
    return LocalIndex(documents, tmp_path / "index")


def urls(index: LocalIndex, query: str, max_results: int = 5) -> list[str]:
    return [hit.url for hit in index.search(query, max_results)]


def test_the_document_with_more_of_the_words_comes_first(index: LocalIndex) -> None:
    assert urls(index, "capital of Norway oslo") == ["cities/oslo.md", "bergen.txt", "https://example.org/cafe"]


def test_no_more_than_asked_for(index: LocalIndex) -> None:
    assert urls(index, "Norway", 1) == urls(index, "Norway", 5)[:1]
    assert len(urls(index, "Norway", 5)) == 2


def test_a_hit_has_title_source_text_and_score(index: LocalIndex) -> None:
    (hit,) = index.search("fjord", 5)
    assert (hit.title, hit.url) == ("Oslo", "cities/oslo.md")
    assert hit.content == "# Oslo\n\nOslo is the capital of Norway.\n\nIt lies at a fjord."
    assert 0 < hit.score < 1


@pytest.mark.parametrize("query", ["CAFE zurich", "cafe\u0301", "opening opens", "(café)"])
def test_case_accents_and_endings_do_not_matter(index: LocalIndex, query: str) -> None:
    assert "https://example.org/cafe" in urls(index, query)


def test_a_line_without_title_and_url_is_named_by_its_place(index: LocalIndex) -> None:
    (hit,) = index.search("shoe", 5)
    assert (hit.title, hit.url) == ("facts.jsonl#3", "facts.jsonl#3")  # line 2 is empty


def test_no_document_has_the_words(index: LocalIndex) -> None:
    assert urls(index, "zebra") == []


@pytest.mark.parametrize(
    "query",
    [
        '"', "oslo\"", "'; DROP TABLE passages; --", "oslo AND", "NOT oslo", "NEAR(oslo norway, 2)", "title:oslo",
        "oslo*", "^oslo", "oslo + norway", "{title url}: oslo", "-oslo", "(((oslo", "oslo\x00norway", "\ud800 oslo",
        "", "🙂", "AND OR NOT", "x" * 400, " ".join(["oslo"] * 80),
    ],
)  # fmt: skip
def test_operators_are_words_like_others(index: LocalIndex, query: str) -> None:
    found = urls(index, query)
    assert ("cities/oslo.md" in found) == ("oslo" in query)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(query=st.text(max_size=60) | st.text(alphabet='"*^:+-(){}ANDORNTE oslo', max_size=60))
def test_any_string_is_a_query(index: LocalIndex, query: str) -> None:
    assert len(index.search(query, 3)) <= 3


def test_long_documents_are_found_by_their_passage(documents: Path, tmp_path: Path) -> None:
    pages = [f"Page {number} tells of nothing. " + "filler " * 150 for number in range(5)]
    pages[3] += "The needle is here."
    (documents / "book.txt").write_text("\n\n".join(pages))
    (hit,) = LocalIndex(documents, tmp_path / "index").search("needle", 5)
    assert hit.content.startswith("Page 3")
    assert len(hit.content) <= PASSAGE_CHARS


@given(st.lists(st.text(alphabet="ab \n", max_size=3000), max_size=4).map("\n\n".join))
def test_passages_keep_every_word_in_order(text: str) -> None:
    parts = list(passages(text))
    assert " ".join(" ".join(parts).split()).replace(" ", "") == "".join(text.split())
    assert all(len(part) <= PASSAGE_CHARS for part in parts)


def test_a_changed_document_is_indexed_again_and_an_unchanged_one_is_not(documents: Path, tmp_path: Path) -> None:
    first = LocalIndex(documents, tmp_path / "index")
    built = first.path.stat().st_mtime_ns
    assert LocalIndex(documents, tmp_path / "index").path.stat().st_mtime_ns == built
    (documents / "bergen.txt").write_text("Bergen\n\nA zebra lives there.")
    os.utime(documents / "bergen.txt", ns=(1, 1))
    second = LocalIndex(documents, tmp_path / "index")
    assert urls(second, "zebra") == ["bergen.txt"]
    assert second.content_hash != first.content_hash
    assert urls(first, "zebra") == []  # an index that is open stays usable


def test_what_a_dead_builder_left_is_not_read(documents: Path, tmp_path: Path) -> None:
    built = LocalIndex(documents, tmp_path / "index").path
    built.rename(built.with_suffix(".unfinished"))
    built.with_suffix(".unfinished").write_bytes(b"half an index")
    assert urls(LocalIndex(documents, tmp_path / "index"), "fjord") == ["cities/oslo.md"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("bad.jsonl", b'{"text": "fine"}\n{"text": ', r"bad\.jsonl, line 2: expected a JSON object"),
        ("bad.jsonl", b'["text"]', "line 1: expected a JSON object"),
        ("bad.jsonl", b'{"text": 3}', "line 1: expected a JSON object"),
        ("bad.txt", b"\xff\xfe", r"bad\.txt is not UTF-8"),
        ("bad.jsonl", b"\xff\xfe", r"bad\.jsonl is not UTF-8"),
        ("empty.txt", b" \n", "no text in any .txt, .md, .jsonl file"),
        ("other.pdf", b"text", "no text in any"),
    ],
)
def test_documents_that_cannot_be_read_are_named_at_start(name: str, content: bytes, told: str, tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / name).write_bytes(content)
    for _ in range(2):  # a failed build leaves nothing that a second start takes for an index
        with pytest.raises(ValueError, match=told):
            LocalIndex(folder, tmp_path / "index")


def test_common_words_cost_nothing_where_a_rarer_one_is_asked_for(
    documents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (documents / "many.jsonl").write_text("".join(f'{{"text": "the city is number{k}"}}\n' for k in range(50)))
    monkeypatch.setattr("verl_axpo.tools.search.local_index.RANKED_PASSAGES", 10)
    index = LocalIndex(documents, tmp_path / "index")
    assert urls(index, "what is the city number7", 60) == ["many.jsonl#8"]  # "is", "the" and "city" are left out
    assert len(urls(index, "the", 60)) > 50  # nothing rarer was asked for
