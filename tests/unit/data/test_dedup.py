"""Which problem is dropped because of which other, and by which condition."""

import json
from pathlib import Path
from typing import Any

import pytest

from examples.tiny_world.fixtures import encoded, picture
from verl_axpo.data.answer_types import Answer
from verl_axpo.data.dedup import find_drops
from verl_axpo.data.entries import Entry, entry_of, read_references, refresh_references
from verl_axpo.data.fingerprint import perceptual_hash
from verl_axpo.data.images import ImageStore
from verl_axpo.data.problem import Problem
from verl_axpo.eval.types import Question

A, B = "a" * 64, "5" * 64  # 256 bits apart: 1010 and 0101 differ everywhere
LONG = "how many of the red boxes are to the left of the tall tree"  # 14 words


def bits(base: str, count: int) -> str:
    """`base` with its `count` lowest bits flipped."""
    return f"{int(base, 16) ^ ((1 << count) - 1):064x}"


def entry(name: str, question: str, *phashes: str) -> Entry:
    return Entry(id=name, source=name[0], question=question, stem=question, phashes=phashes)


def dropped(entries: list[Entry], references: list[Entry] | None = None) -> list[tuple[object, ...]]:
    drops = find_drops(entries, references or [])
    return [(drop.id, drop.same_as, drop.by, drop.bits) for drop in drops]


def test_inside_both_conditions_are_needed_and_the_earlier_one_stays() -> None:
    entries = [
        entry("p1", "area", A),
        entry("p2", "area", bits(A, 12)),  # near enough, same question
        entry("p3", "area", bits(A, 13)),  # one bit too far from p1, and p2 is not there any more
        entry("p4", "perimeter", A),  # another question
        entry("p5", "area", B),  # another picture
    ]
    assert dropped(entries) == [("p2", "p1", "image and question", 12)]


def test_a_dropped_problem_drops_nobody_else() -> None:
    # p3 is 12 bits from p2, which goes, and 24 from p1, which stays: without p3 its picture would be gone
    further = f"{int(bits(A, 12), 16) ^ (((1 << 12) - 1) << 100):064x}"
    entries = [entry("p1", "area", A), entry("p2", "area", bits(A, 12)), entry("p3", "area", further)]
    assert dropped(entries) == [("p2", "p1", "image and question", 12)]


def test_every_image_in_its_place() -> None:
    entries = [
        entry("p1", "compare", A, B),
        entry("p2", "compare", B, A),
        entry("p3", "compare", A, B, A),
        entry("p4", "compare", A, bits(B, 3)),
    ]
    assert dropped(entries) == [("p4", "p1", "image and question", 3)]


def test_without_an_image_the_question_is_the_problem() -> None:
    entries = [entry("p1", "2+2"), entry("p2", "2+2", A), entry("p3", "2+2"), entry("p4", "2+3")]
    assert dropped(entries) == [("p3", "p1", "question", None)]


def test_against_a_benchmark_either_condition_is_enough() -> None:
    entries = [
        entry("p1", LONG, B, A),  # one of its two images is theirs
        entry("p2", "other", bits(A, 2)),
        entry("p3", LONG, B),
        entry("p4", "what is it", B),  # so short that the question alone does not count
        entry("p5", "what is it", bits(A, 99)),  # but not together with the image
    ]
    references = [entry("b1", LONG, A), entry("b2", "what is it", bits(A, 100))]
    assert dropped(entries, references) == [
        ("p1", "b1", "image and question", 0),
        ("p2", "b1", "image", 2),
        ("p3", "b1", "question", None),
        ("p5", "b2", "image and question", 1),
    ]


def test_a_benchmark_question_without_an_image_is_the_whole_problem() -> None:
    entries = [entry("p1", "who won in 1968", B), entry("p2", "who won in 1969")]
    assert dropped(entries, [entry("b1", "who won in 1968")]) == [("p1", "b1", "question", None)]


def test_a_leak_is_dropped_with_its_repetitions() -> None:
    entries = [entry("p1", LONG, A), entry("p2", LONG, bits(A, 2)), entry("p3", LONG, B)]
    assert dropped(entries, [entry("b1", "other", A)]) == [("p1", "b1", "image", 0), ("p2", "b1", "image", 2)]


def entry_with(phash: str, question: str, stem: str | None = None) -> Entry:
    return Entry(id="vstar/7", source="vstar", question=question, stem=stem or question, phashes=(phash,))


def test_a_benchmarks_own_words_count_and_not_our_instruction(tmp_path: Path) -> None:
    question = Question(
        benchmark="vstar",
        uid="7",
        prompt="<image>\nWhich one?\nA. red\nB. green\nGive only the letter.",
        ground_truth="A",
        answer_type="choice",
        images=(encoded(picture("a")),),
        metadata={"question": "Which one? Choices: (A) red (B) green"},
    )
    refresh_references(tmp_path / "r.jsonl", "vstar", [question])
    (read,) = read_references(tmp_path / "r.jsonl")
    said = "which one choices (a) red (b) green"
    assert read == entry_with(perceptual_hash(picture("a")), said, "which one")


def test_benchmark_questions_become_entries_and_come_back(tmp_path: Path) -> None:
    question = Question(
        benchmark="vstar",
        uid="7",
        prompt="<image>\nWhat colour is the glove?",
        ground_truth="A",
        answer_type="choice",
        images=(encoded(picture("a")),),
    )
    assert refresh_references(tmp_path / "r.jsonl", "vstar", [question]) == 1
    (read,) = read_references(tmp_path / "r.jsonl")
    phash = perceptual_hash(picture("a"))
    assert read == entry_with(phash, "what colour is the glove")
    (tmp_path / "cut.jsonl").write_bytes((tmp_path / "r.jsonl").read_bytes()[:-9])  # a copy that lacks its end
    with pytest.raises(ValueError, match=r"cut.jsonl line 1: ends in the middle.*`verl-axpo data benchmarks` again"):
        read_references(tmp_path / "cut.jsonl")
    (tmp_path / "r.jsonl").write_text(
        json.dumps({"id": "x", "source": "v", "question": 3, "stem": "", "phashes": []}) + "\n"
    )
    with pytest.raises(ValueError, match=r"r.jsonl line 1: question: got 3, expected: Input should be a valid string"):
        read_references(tmp_path / "r.jsonl")


def test_a_problem_takes_its_hash_from_the_store(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    record = store.add(encoded(picture("a"), "JPEG"))
    problem = Problem(
        id="s/1", source="s", question="<image>Why?", answer="x", answer_type="short_text", images=(record.sha256,)
    )
    made = entry_of(problem, store.records)
    assert (made.question, made.phashes) == ("why", (record.phash,))
    with pytest.raises(ValueError, match=r"s/1: image .* is not in the store; ingest s again"):
        entry_of(problem, {})


@pytest.mark.parametrize("most_bits", [-1, 257])
def test_a_distance_that_no_hash_has_is_refused(most_bits: int) -> None:
    with pytest.raises(ValueError, match=f"most_bits: got {most_bits}, expected 0 to 256"):
        find_drops([], [], most_bits)


def answered(name: str, question: str, text: str, *phashes: str, kind: Any = "math") -> Entry:
    answer = Answer(text=text, kind=kind)
    return Entry(id=name, source=name[0], question=question, stem=question, phashes=phashes, answer=answer)


def test_inside_one_question_with_another_answer_is_another_problem() -> None:
    entries = [
        answered("p1", "find x", "3", A),
        answered("p2", "find x", "4", bits(A, 2)),  # a triangle of the same template
        answered("p3", "find x", "8/2", bits(A, 1)),  # p2 again, written differently
        answered("p4", "find y", "3", A),
        answered("p5", "who", "Oslo", kind="short_text"),
        answered("p6", "who", "Bergen", kind="short_text"),
        answered("p7", "who", "oslo.", kind="short_text"),
    ]
    assert [drop[:3] for drop in dropped(entries)] == [
        ("p3", "p2", "image and question"),
        ("p7", "p5", "question"),
    ]


def test_against_a_benchmark_another_answer_protects_nobody() -> None:
    found = dropped([answered("p1", LONG, "3", A)], [entry("b1", LONG, A)])
    assert found == [("p1", "b1", "image and question", 0)]


@pytest.mark.parametrize("rules", ["data", "images"])
def test_entries_by_other_rules_are_refused_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rules: str
) -> None:
    question = Question(benchmark="vstar", uid="7", prompt="Why?", ground_truth="A", answer_type="choice")
    refresh_references(tmp_path / "r.jsonl", "vstar", [question])
    monkeypatch.setattr(f"verl_axpo.{rules}.VERSION", 3)
    with pytest.raises(
        ValueError, match=rf"vstar was noted by other rules \({rules} 2 then, 3 now\); run .*--benchmark v"
    ):
        read_references(tmp_path / "r.jsonl")
    line = json.loads((tmp_path / "r.jsonl").read_text())
    del line["versions"]
    (tmp_path / "r.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(ValueError, match=r"no versions then"):
        read_references(tmp_path / "r.jsonl")
