# ruff: noqa: RUF001  # full-width signs are tested
"""Each source with its documented files and columns; messages name the file and row of a mistake."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from examples.tiny_world import fixtures
from examples.tiny_world.fixtures import encoded, picture
from verl_axpo.data import parquet
from verl_axpo.data.answer_types import Answer, rule_of, typed
from verl_axpo.data.images import ImageLimits, ImageStore
from verl_axpo.data.ingest import ingest
from verl_axpo.data.problem import Problem, read_problems
from verl_axpo.data.sources import SOURCES, source_of

ROWS = 4


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    fixtures.make(tmp_path / "raw", ROWS, 0)
    return tmp_path / "raw"


def run(name: str, root: Path, max_bad: float = 0.0, **limits: int) -> tuple[dict[str, Any], list[Problem]]:
    """Ingest a source's folder into a folder next to it: the numbers and the problems."""
    out = root.parent / "out" / name
    store = ImageStore(root.parent / "images", ImageLimits(**limits))
    numbers = ingest(source_of(name), root, out, store, max_bad)
    return numbers, list(read_problems(out / "problems.jsonl"))


def bad_rows(root: Path, name: str) -> list[dict[str, str]]:
    lines = (root.parent / "out" / name / "bad_rows.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def stored(root: Path, problem: Problem) -> list[bytes]:
    store = ImageStore(root.parent / "images")
    return [store.read(picture) for picture in problem.images]


def change(path: Path, index: int, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edit one row of a parquet file."""
    rows = list(parquet.iter_rows(path))
    edit(rows[index])
    pq.write_table(pa.Table.from_pylist(rows), path)


def test_virl39k_rows_become_problems(raw: Path) -> None:
    numbers, problems = run("virl39k", raw / "virl39k")
    assert numbers == {
        "source": "virl39k",
        "rows": 4,
        "rows_documented": 38_870,
        "bad": 0,
        "bad_reasons": {},
        "unwanted": {},
        "problems": 4,
        "answer_types": {"math": 4},
        "answer_rules": {"math, a value": 4},
        "images": 4,
        "examples": {},
    }
    assert problems[3] == Problem(
        id="virl39k/fixture-3",
        source="virl39k",
        question="<image>\nHow many shapes of figure 3 are red?",
        answer="3",
        answer_type="math",
        images=problems[3].images,
        metadata={
            "category": "Broader STEM Topics",
            "from": "fixture",
            "pass_rate_32b_trained": 0.5,
            "pass_rate_7b_base": -1.0,
        },
    )
    assert stored(raw / "virl39k", problems[3]) == [encoded(picture("virl39k/0/3"))]


def test_virl39k_with_the_archive_extracted(raw: Path) -> None:
    packed = run("virl39k", raw / "virl39k")[1]
    with zipfile.ZipFile(raw / "virl39k/images.zip") as archive:
        archive.extractall(raw / "virl39k")
    (raw / "virl39k/images.zip").unlink()
    assert run("virl39k", raw / "virl39k")[1] == packed


def test_fvqa_gets_a_placeholder_and_its_candidate_answers_as_aliases(raw: Path) -> None:
    numbers, problems = run("fvqa", raw / "fvqa")
    assert (numbers["rows"], numbers["problems"]) == (4, 4)
    assert problems[1].question == "<image>Which town is landmark 1 in?"
    assert (problems[1].answer, problems[1].aliases) == ("Town 1", ("the town of 1",))
    assert (problems[1].answer_type, problems[1].metadata["category"]) == ("short_text", "search_required")
    assert stored(raw / "fvqa", problems[1]) == [encoded(picture("fvqa/0/1"))]


@pytest.mark.parametrize("marker", ["<video>", "<audio>", "<|image_pad|>", "<|im_end|>", "<think>", "<tool_call>"])
def test_a_marker_in_a_questions_text_is_made_inert(raw: Path, marker: str) -> None:
    def ask(row: dict[str, Any]) -> None:
        row["prompt"] = [{"role": "user", "content": f"<image>What does {marker} mean?"}]

    change(raw / "fvqa/fvqa_train.parquet", 1, ask)
    assert run("fvqa", raw / "fvqa")[1][1].question == f"<image>What does < {marker[1:]} mean?"


def test_a_question_with_more_placeholders_than_pictures_is_a_bad_row_with_its_reason(raw: Path) -> None:
    def ask(row: dict[str, Any]) -> None:
        row["prompt"] = [{"role": "user", "content": "<image>What does <image> mean?"}]

    change(raw / "fvqa/fvqa_train.parquet", 1, ask)
    numbers, _ = run("fvqa", raw / "fvqa", max_bad=0.5)
    assert (numbers["bad"], numbers["problems"]) == (1, 3)
    assert "got 2 <image> for 1 image(s)" in bad_rows(raw / "fvqa", "fvqa")[0]["reason"]


@pytest.mark.parametrize(("above", "kind"), [(1, "judge"), (2, "short_text"), (None, "short_text")])
def test_a_text_of_more_words_than_asked_for_is_a_judges(raw: Path, above: int | None, kind: str) -> None:
    # "Town 0" to "Town 3": two words; ViRL39K's numbers are one word and no text
    out, store = raw / "out", ImageStore(raw / "images")
    numbers = ingest(source_of("fvqa"), raw / "fvqa", out, store, judge_above_words=above)
    assert numbers["answer_types"] == {kind: 4}
    assert {problem.answer_type for problem in read_problems(out / "problems.jsonl")} == {kind}
    numbers = ingest(source_of("virl39k"), raw / "virl39k", out, store, judge_above_words=0)
    assert numbers["answer_types"] == {"math": 4}


def test_a_number_of_words_below_0_is_refused(raw: Path) -> None:
    with pytest.raises(ValueError, match=r"judge_above_words: got -1, expected 0 or more"):
        ingest(source_of("fvqa"), raw / "fvqa", raw / "out", ImageStore(raw / "images"), judge_above_words=-1)


def test_pyvision_finds_pictures_in_its_folder_and_in_an_archive(raw: Path) -> None:
    root = raw / "pyvision"
    problems = run("pyvision", root)[1]
    assert [(problem.id, problem.answer, problem.answer_type) for problem in problems[:2]] == [
        ("pyvision/deepeyes/0", "A", "choice"),
        ("pyvision/deepeyes/1", "B", "choice"),
    ]
    assert stored(root, problems[1]) == [encoded(picture("pyvision/0/1"))]
    with zipfile.ZipFile(root / "part1.zip", "w") as archive:
        for path in sorted((root / "pyvision_image_rl_data").rglob("*.png")):
            archive.write(path, path.relative_to(root))
            path.unlink()
    assert run("pyvision", root)[1] == problems


def test_mmfinereason_keeps_the_hard_rows(raw: Path) -> None:
    numbers, problems = run("mmfinereason", raw / "mmfinereason")
    assert numbers["unwanted"] == {"pass rate of Qwen3-VL-4B above 0": 2}  # rows 1 and 3
    assert [(problem.id, problem.answer, problem.answer_type) for problem in problems] == [
        ("mmfinereason/fixture/0", "0", "math"),
        ("mmfinereason/fixture/2", "\\frac{2}{2}", "math"),
    ]


def test_mmfinereason_under_the_other_name_of_the_rate_and_with_a_list_of_pictures(raw: Path) -> None:
    path = raw / "mmfinereason/data/train-00000-of-00001.parquet"
    rows = list(parquet.iter_rows(path))
    for row in rows:
        row["pass_rate"] = row.pop("qwen3vl_4b_pass_rate")
        row["image"] = [row["image"]]
    pq.write_table(pa.Table.from_pylist(rows), path)
    assert run("mmfinereason", raw / "mmfinereason")[0]["problems"] == 2


def set_to(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda row: row.update(values)


@pytest.mark.parametrize(
    ("name", "file", "edit", "told"),
    [
        ("virl39k", "39Krelease.parquet", set_to(answer="17"), "answer: got '17', expected \\boxed{...}"),
        ("virl39k", "39Krelease.parquet", set_to(answer="\\boxed{ }"), "answer: is empty; give its text"),
        ("virl39k", "39Krelease.parquet", set_to(qid=None), "qid: got None, expected: Input should be a valid string"),
        ("virl39k", "39Krelease.parquet", set_to(qid="fixture-0"), "id: 'fixture-0' is already the id of 39Krelease"),
        (
            "virl39k",
            "39Krelease.parquet",
            set_to(image=["images/no.png"]),
            "image: got path 'images/no.png', which is nei",
        ),
        (
            "virl39k",
            "39Krelease.parquet",
            set_to(image=["../../secret"]),
            "image: got path '../../secret', expected one i",
        ),
        (
            "virl39k",
            "39Krelease.parquet",
            set_to(image=["/etc/passwd"]),
            "image: got path '/etc/passwd', expected one ins",
        ),
        (
            "virl39k",
            "39Krelease.parquet",
            set_to(image=[]),
            "question: got 1 <image> for 0 image(s), expected one each",
        ),
        (
            "fvqa",
            "fvqa_train.parquet",
            set_to(images=[{"bytes": b"GIF89a"}]),
            "image: got 6 bytes that cannot be decoded",
        ),
        (
            "fvqa",
            "fvqa_train.parquet",
            lambda row: row["reward_model"].update(candidate_answers="Malta"),
            "reward_model.candidate_answers: got 'Malta', expected: Value error",
        ),
        (
            "fvqa",
            "fvqa_train.parquet",
            set_to(category="maybe"),
            "category: got 'maybe', expected: Input should be 'search_required' or 'search_free'",
        ),
        (
            "mmfinereason",
            "data/train-00000-of-00001.parquet",
            set_to(qwen3vl_4b_pass_rate=1.5),
            "qwen3vl_4b_pass_rate: got 1.5, expected: Input should be less than or equal to 1",
        ),
    ],
)
def test_a_bad_row_is_listed_with_its_place_and_reason(
    raw: Path, name: str, file: str, edit: Callable[[dict[str, Any]], None], told: str
) -> None:
    change(raw / name / file, 2, edit)
    numbers, problems = run(name, raw / name, max_bad=0.25)  # 1 of 4 is just allowed
    assert numbers["bad"] == 1
    assert f"{name}/fixture-2" not in {problem.id for problem in problems}
    (bad,) = bad_rows(raw / name, name)
    assert bad["place"] == f"{file} row 2"
    assert bad["reason"].startswith(told)


def test_an_answer_of_the_wrong_type_in_the_whole_column(raw: Path) -> None:
    path = raw / "virl39k/39Krelease.parquet"
    rows = [{**row, "answer": 17} for row in parquet.iter_rows(path)]
    pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(ValueError, match="virl39k: 4 of 4 rows are bad") as caught:
        run("virl39k", raw / "virl39k", max_bad=0.01)
    told = str(caught.value)
    assert "(100.00%), more than the 1.00% that --max-bad allows" in told
    assert "39Krelease.parquet row 0: answer: got 17, expected: Input should be a valid string" in told
    assert told.endswith("bad_rows.jsonl")
    assert len(bad_rows(raw / "virl39k", "virl39k")) == 4
    assert not (raw / "out/virl39k/problems.jsonl").exists()


def test_a_wrong_column_is_reported_before_any_row_is_read(raw: Path) -> None:
    path = raw / "virl39k/39Krelease.parquet"
    pq.write_table(pq.read_table(path).rename_columns({"answer": "solution"}), path)
    with pytest.raises(
        ValueError, match="'answer' is missing: not the virl39k file that its documentation describes"
    ) as caught:
        run("virl39k", raw / "virl39k")
    assert "got columns ['question', 'solution'" in str(caught.value)


def test_either_name_of_the_rate_is_named_when_both_are_missing(raw: Path) -> None:
    path = raw / "mmfinereason/data/train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["qwen3vl_4b_pass_rate"]), path)
    with pytest.raises(ValueError, match="'qwen3vl_4b_pass_rate or pass_rate' is missing"):
        run("mmfinereason", raw / "mmfinereason")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_truncated_parquet_says_to_fetch_it_again(raw: Path, share: float) -> None:
    path = raw / "fvqa/fvqa_train.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"bytes that are not a whole parquet file .* fetch it again"):
        run("fvqa", raw / "fvqa")


def test_a_parquet_damaged_in_its_middle_says_so_too(raw: Path) -> None:
    path = raw / "virl39k/39Krelease.parquet"
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)  # pages of the first columns; the footer is sound
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"39Krelease.parquet: got .* that are not a whole parquet file"):
        run("virl39k", raw / "virl39k")


def test_a_truncated_archive_is_one_message(raw: Path) -> None:
    path = raw / "virl39k/images.zip"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"images.zip: got .* bytes that are not a whole zip archive"):
        run("virl39k", raw / "virl39k")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_of_an_archive_is_one_bad_row(raw: Path, method: int) -> None:
    path = raw / "virl39k/images.zip"
    with zipfile.ZipFile(path) as archive:
        pictures = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in pictures.items():
            archive.writestr(name, data)
        begin = archive.getinfo("images/fixture-1-0.png").header_offset
    content = bytearray(path.read_bytes())
    content[begin + 60 : begin + 160] = b"\xff" * 100  # after the member's header of 52 bytes
    path.write_bytes(bytes(content))
    assert run("virl39k", raw / "virl39k", max_bad=0.25)[0]["bad"] == 1
    (bad,) = bad_rows(raw / "virl39k", "virl39k")
    assert bad["place"] == "39Krelease.parquet row 1"
    assert "'images/fixture-1-0.png' in " in bad["reason"]
    assert "is damaged (" in bad["reason"]


def test_an_image_too_large_for_the_limit_is_not_unpacked(raw: Path) -> None:
    with pytest.raises(ValueError, match=r"image: got [\d,]+ bytes in 'images/fixture-0-0.png', expected at most 100"):
        run("virl39k", raw / "virl39k", max_bytes=100)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('[{"id": "0"', "are not JSON"),
        ('{"id": "0"}', "got a JSON dict, expected a list of objects"),
        ("[]", "pyvision: its files have no rows"),
        ("[3]", "row: got 3, expected: Input should be a valid dictionary"),
        ('[{"id": "0"}]', "question: missing; answer: missing; ability: missing"),
    ],
)
def test_json_that_is_not_the_documented_list(raw: Path, content: str, told: str) -> None:
    (raw / "pyvision/pyvision_image_rl_data.json").write_text(content)
    with pytest.raises(ValueError, match=told):
        run("pyvision", raw / "pyvision")


def test_a_folder_without_the_files_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no 39Krelease.parquet, .*verl-axpo data fetch virl39k"):
        run("virl39k", tmp_path)


def test_an_unknown_source_lists_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"got 'imagenet'; choose from \['virl39k', 'fvqa', 'pyvision', 'mmfinereason'\]"
    ):
        source_of("imagenet")
    assert all(SOURCES[name].name == name for name in SOURCES)


def test_the_same_seed_makes_the_same_fixtures(tmp_path: Path) -> None:
    for name in ("one", "two"):
        fixtures.make(tmp_path / name, 2, 5)
    for path in ("virl39k/39Krelease.parquet", "pyvision/pyvision_image_rl_data/deepeyes/1.png"):
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


CHOICES = "Which one?\n(A) red\n(B) green"
MARKS = {  # ways to mark the options "red" and "green"
    "round brackets": CHOICES,
    "full-width brackets": "Which one?\n（A） red\n（B） green",
    "full-width points": "哪一个？A．red B．green",
    "small letters": "Which one? (a) red (b) green",
    "bold": "Which one?\n**A.** red\n**B.** green",
    "bold brackets": "Which one?\n**(A)** red\n**(B)** green",
    "points": "Which one? A. red B. green",
    "points without spaces": "Which one?\nA.red\nB.green\n",
    "colons": "Which one?\nChoices:\nA: red\nB: green\nAnswer with the letter.",
    "one bracket": "Which one?\nA) red\nB) green",
    "square brackets": "Which one? [A] red; [B] green",
    "dashes": "Which one?\n- A. red\n- B. green",
    "Chinese comma": "哪一个？A、red B、green",
    "after a mention": "Look at point (A). Which one?\n(A) red\n(B) green",
}


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        (CHOICES, "B", "choice"),
        (CHOICES, "(b)", "choice"),
        ("Which? A. 3 B. 4", "B.", "choice"),
        (CHOICES, "C", "short_text"),  # not among the options
        ("Which vertex?", "B", "short_text"),
        ("How long?", "12 cm", "math"),
        ("How much?", "\\frac{1}{2}", "math"),
        ("Which set?", "[1, 3)", "math"),
        ("Solve", "x+y", "math"),
        ("Solve", "x = y", "math"),
        ("Who?", "Ada Lovelace", "short_text"),
        ("True?", "yes", "short_text"),
        ("When was it?", "in the summer of the year 1968", "short_text"),
        ("Angle?", "\\angle BAC = 30^\\circ", "math"),
        (CHOICES, "green", "choice"),  # the text of an option
        (CHOICES, "B. green", "choice"),
        (CHOICES, "5", "math"),
        # dates, scores, telephone numbers, times and codes are no subtractions or products
        ("When?", "2021-03-05", "short_text"),
        ("When?", "March 5, 2021", "short_text"),
        ("When?", "12/25/2020", "short_text"),
        ("Score?", "2-1", "short_text"),
        ("Number?", "555-1234", "short_text"),
        ("When?", "3:30 PM", "short_text"),
        ("When?", "15:45", "short_text"),
        ("What flies?", "Boeing 747", "short_text"),
        ("What flies?", "F-16", "short_text"),
        ("What?", "X-ray", "short_text"),
        ("What?", "COVID-19", "short_text"),
        ("What?", "H2O", "short_text"),
        ("What?", "Vitamin A", "short_text"),
        ("Which?", "A, C", "short_text"),
        ("Which?", "A+", "short_text"),
        ("Which?", "C++", "short_text"),
        ("Who?", "\\text{Paris}", "short_text"),
        ("Address?", "192.168.0.1", "short_text"),
        ("How long?", "10-12 cm", "short_text"),
        ("Which?", "1st", "short_text"),
        ("Band?", "AC/DC", "short_text"),
        ("Ratio?", "3:4", "math"),
        ("Share?", "50\\%", "math"),
        ("How many?", "1 1/2", "math"),
        ("How much?", "-5", "math"),
        ("Matrix?", "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "math"),
    ],
)
def test_the_answer_type_is_inferred_from_the_answer(question: str, answer: str, expected: str) -> None:
    assert typed(question, answer).kind == expected


@pytest.mark.parametrize("question", MARKS.values(), ids=MARKS)
def test_options_are_seen_however_they_are_marked(question: str) -> None:
    assert typed(question, "B") == Answer(kind="choice", text="B", options=("red", "green"))


@pytest.mark.parametrize("question", ["Which point? (A) is red.", "Is (A) or (B) larger?", "Find x.", ""])
def test_a_mention_of_letters_is_no_list_of_options(question: str) -> None:
    assert typed(question, "A").options == ()


def test_options_that_are_drawn_are_their_letters() -> None:
    assert typed("Which figure?\n(A)\n(B)\n(C)\n", "C").options == ("A", "B", "C")


@pytest.mark.parametrize(
    ("kind", "answer", "rule"),
    [
        ("choice", "B", "choice"),
        ("math", "\\frac{1}{2} cm", "math, a value"),
        ("math", "x = 5", "math, a value"),
        ("math", "2x+1", "math, an expression or several"),
        ("math", "1, 2", "math, an expression or several"),
        ("short_text", "March 5, 2021", "short_text, a date"),
        ("short_text", "Ada Lovelace", "short_text, words"),
        ("judge", "a long description", "judge"),
    ],
)
def test_the_rule_that_takes_an_answer_is_named(kind: Any, answer: str, rule: str) -> None:
    assert rule_of(kind, answer) == rule


def test_several_boxes_of_an_answer_are_a_list() -> None:
    row = {
        "qid": "1",
        "question": "Solve",
        "answer": "\\boxed{1} and \\boxed{2}",
        "image": [],
        "category": "c",
        "source": "s",
    }
    source = source_of("virl39k")
    draft = source.draft(source.row.model_validate({**row, "PassRate_32BTrained": 0.5, "PassRate_7BBase": 0.5}))
    assert (draft.answer.text, draft.answer.kind) == ("1, 2", "math")


def test_only_rows_that_are_no_utf8_are_left_out_and_counted_with_an_example(raw: Path) -> None:
    path = raw / "fvqa/fvqa_train.parquet"
    table = pq.read_table(path)
    names = [name.encode() for name in table["data_source"].to_pylist()]
    names[1] = b"caf\xe9 of a Latin-1 file"
    broken = pa.array(names, pa.binary()).view(pa.string())  # what a writer that does not check leaves
    place = table.column_names.index("data_source")
    pq.write_table(table.set_column(place, "data_source", broken), path)
    numbers, found = run("fvqa", raw / "fvqa", max_bad=0.5)
    assert (numbers["rows"], len(found), numbers["bad"]) == (ROWS, ROWS - 1, 1)
    assert numbers["bad_reasons"] == {"data_source": 1}
    assert numbers["examples"]["data_source"] == ["fvqa_train.parquet row 1"]
    (row,) = bad_rows(raw / "fvqa", "fvqa")
    assert "UnicodeDecodeError" in row["reason"]
