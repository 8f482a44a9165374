"""Loading: the documented schemas give the documented questions, everything else gives a message that helps."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from examples.benchmark_rows.rows import picture
from verl_axpo.eval import benchmarks
from verl_axpo.eval.benchmarks import BenchmarkError
from verl_axpo.eval.types import Question

Rows = list[dict[str, Any]]
DOCUMENTED = {
    "mathvision": 304,
    "dynamath": 501,
    "math_vr": None,
    "vstar": 191,
    "visualprobe": 106,
    "hrbench_4k": 200,
    "hrbench_8k": 200,
    "hr_mmsearch": 305,
    "mmsearch": 300,
}
IN_FIXTURES = dict(zip(DOCUMENTED, (3, 4, 2, 2, 2, 2, 2, 2, 3), strict=True))


def load(data: dict[str, Path], name: str, **kwargs: Any) -> list[Question]:
    return benchmarks.load(name, data[name], check_count=False, **kwargs)


def test_names_are_the_papers_columns_in_order() -> None:
    assert benchmarks.names() == tuple(DOCUMENTED)
    groups = [benchmarks.get(name).group for name in benchmarks.names()]
    assert groups == ["math"] * 3 + ["perception"] * 4 + ["search"] * 2
    assert {name: benchmarks.get(name).count for name in benchmarks.names()} == DOCUMENTED


def test_the_papers_numbers_average_to_the_papers_average() -> None:
    # Section 5: 8B Pass@1 60.5 and 62.3, Pass@4 74.0 and 75.8, tool utilization 69.0 and 82.9, over nine columns.
    for model, expected in {"SFT+GRPO": (60.5, 74.0, 69.0), "SFT+AXPO": (62.3, 75.8, 82.9)}.items():
        rows = [benchmarks.get(name).paper[model] for name in benchmarks.names()]
        means = [sum(column) / 9 for column in zip(*((r.pass_1, r.pass_4, r.tool_use) for r in rows), strict=True)]
        assert means == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_fixture_rows_become_questions(data: dict[str, Path], name: str) -> None:
    questions = load(data, name)
    assert len(questions) == IN_FIXTURES[name]
    for question in questions:
        assert question.benchmark == name
        assert question.prompt.count("<image>") == len(question.images)
        assert all(Image.open(io.BytesIO(image)).size == (96, 96) for image in question.images)
        assert question.ground_truth
        assert question.metadata["question"]


@pytest.mark.parametrize("name", [name for name, count in DOCUMENTED.items() if count])
def test_another_count_than_documented_is_refused(data: dict[str, Path], name: str) -> None:
    with pytest.raises(
        BenchmarkError, match=f"{name}: {IN_FIXTURES[name]} questions, documented are {DOCUMENTED[name]}"
    ):
        benchmarks.load(name, data[name])


def test_limit_takes_the_first_questions(data: dict[str, Path]) -> None:
    assert [question.uid for question in load(data, "dynamath", limit=2)] == ["1", "2"]


def test_a_parquet_file_is_a_source(data: dict[str, Path]) -> None:
    for name in ("mathvision", "hrbench_4k", "mmsearch"):
        file = next(data[name].rglob("*4k.parquet" if name == "hrbench_4k" else "*.parquet"))
        assert benchmarks.load(name, str(file), check_count=False) == load(data, name)


def test_an_annotation_file_is_a_source(data: dict[str, Path]) -> None:
    file = data["vstar"] / "test_questions.jsonl"
    assert benchmarks.load("vstar", file, check_count=False) == load(data, "vstar")


def test_images_keep_the_bytes_they_came_in(data: dict[str, Path]) -> None:
    assert load(data, "mathvision")[0].images == (picture("red", "3.14"),)
    assert load(data, "vstar")[0].images == ((data["vstar"] / "direct_attributes/red.jpg").read_bytes(),)
    assert load(data, "hrbench_4k")[0].images == (picture("red", kind="JPEG"),)


def test_one_rotation_of_hrbench_is_kept(data: dict[str, Path]) -> None:
    questions = load(data, "hrbench_8k")
    assert [question.metadata["cycle_category"] for question in questions] == ["0", "0"]
    assert [question.uid for question in questions] == ["0", "1"]


def test_mmsearch_without_an_image_has_none(data: dict[str, Path]) -> None:
    assert [len(question.images) for question in load(data, "mmsearch")] == [1, 0, 0]
    assert load(data, "mmsearch")[0].metadata["aliases"] == ("Miró", "Joan Miro")


def test_math_vr_images_stand_where_the_text_mentions_them(data: dict[str, Path]) -> None:
    text_only, two = load(data, "math_vr")
    assert text_only.images == ()
    assert two.prompt.startswith("(1) Read the number in <image>. (2) Add to it the one in <image>.")
    assert two.images == (picture("red", "4"), picture("green", "5"))


def rewrite(data: dict[str, Path], name: str, to: Path, change: Callable[[Rows], Any]) -> Path:
    """A copy of a table with its rows changed in place."""
    table = datasets.Dataset.from_parquet(str(next(data[name].rglob("*.parquet"))), cache_dir=str(to / "cache"))
    for column in [name for name, kind in table.features.items() if isinstance(kind, datasets.Image)]:
        table = table.cast_column(column, datasets.Image(decode=False))
    rows = table.to_list()
    change(rows)
    datasets.Dataset.from_list(rows).to_parquet(str(to / "changed.parquet"))
    return to / "changed.parquet"


def test_a_missing_column_is_named_with_the_columns_found(data: dict[str, Path], tmp_path: Path) -> None:
    file = rewrite(data, "dynamath", tmp_path, lambda rows: [row.pop("ground_truth") for row in rows])
    with pytest.raises(BenchmarkError, match=r"lacks the column\(s\) \['ground_truth'\]; it has \['answer_type', "):
        benchmarks.load("dynamath", file, check_count=False)


def test_a_missing_field_of_an_annotation_file_is_named(data: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(data["vstar"], tmp_path / "copy")
    (tmp_path / "copy/test_questions.jsonl").write_text('{"image": "a.jpg", "text": "?"}\n')
    with pytest.raises(BenchmarkError, match=r"lacks the column\(s\) \['label', 'question_id', 'category'\]"):
        benchmarks.load("vstar", tmp_path / "copy", check_count=False)


def test_corrupt_images_are_listed_with_row_and_reason(data: dict[str, Path], tmp_path: Path) -> None:
    def corrupt(rows: Rows) -> None:
        rows[0]["decoded_image"] = {"bytes": b"not an image", "path": None}
        rows[2]["decoded_image"] = {"bytes": picture("red")[:-200], "path": None}

    file = rewrite(data, "mathvision", tmp_path, corrupt)
    with pytest.raises(BenchmarkError, match=r"2 unusable row\(s\)") as raised:
        benchmarks.load("mathvision", file, check_count=False)
    lines = str(raised.value).splitlines()
    assert lines[1].startswith(
        "  row 0 (id 1): image 0: got 12 bytes that cannot be decoded (no picture that is known)"
    )
    assert lines[2].startswith("  row 2 (id 3): image 0: ")


def test_a_cut_jpeg_and_a_lost_file_are_listed(data: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(data["visualprobe"], copy)
    (copy / "data/blue.jpg").write_bytes(picture("blue", kind="JPEG")[:-300])
    (copy / "data/orange.jpg").unlink()
    with pytest.raises(BenchmarkError, match=r"2 unusable row\(s\)") as raised:
        benchmarks.load("visualprobe", copy, check_count=False)
    assert "(image file is truncated" in str(raised.value)
    assert "orange.jpg: No such file or directory" in str(raised.value)


def test_bad_base64_and_a_label_that_is_no_option_are_listed(data: dict[str, Path], tmp_path: Path) -> None:
    def change(rows: Rows) -> None:
        rows[0]["image"] = "@@@"
        rows[1]["answer"] = "E"

    file = rewrite(data, "hrbench_4k", tmp_path, change)
    with pytest.raises(BenchmarkError) as raised:
        benchmarks.load("hrbench_4k", file, check_count=False)
    assert "row 0 (id 0): not base64" in str(raised.value)
    assert "row 1 (id 1): the right answer is 'E', the options are ['A', 'B', 'C', 'D']" in str(raised.value)


def test_part_of_the_rotations_is_refused(data: dict[str, Path], tmp_path: Path) -> None:
    file = rewrite(data, "hrbench_4k", tmp_path, lambda rows: rows.pop())
    with pytest.raises(BenchmarkError, match=r"rotations .* of different sizes"):
        benchmarks.load("hrbench_4k", file, check_count=False)


def test_repeated_ids_are_refused(data: dict[str, Path], tmp_path: Path) -> None:
    file = rewrite(data, "hr_mmsearch", tmp_path, lambda rows: rows[1].update(sample_id="000"))
    with pytest.raises(BenchmarkError, match=r"ids must be unique, repeated are \['000'\]"):
        benchmarks.load("hr_mmsearch", file, check_count=False)


def test_more_placeholders_than_images_are_listed(data: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(data["visualprobe"], copy)
    rows = json.loads((copy / "val.json").read_text())
    rows[0]["problem"] = "<image><image> What?"
    (copy / "val.json").write_text(json.dumps(rows))
    with pytest.raises(BenchmarkError, match=r"row 0 \(id 0\): the question has 2 <image> placeholders for 1 image"):
        benchmarks.load("visualprobe", copy, check_count=False)


def test_what_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"unknown benchmark 'mathvista'; choose from \['mathvision', 'dynamath'"):
        benchmarks.load("mathvista")
    with pytest.raises(BenchmarkError, match="absent does not exist; give a copy of the dataset craigwu/vstar_bench"):
        benchmarks.load("vstar", tmp_path / "absent")
    with pytest.raises(BenchmarkError, match=r"test_questions.jsonl does not exist; the folder holds \[\]"):
        benchmarks.load("vstar", tmp_path)
    with pytest.raises(BenchmarkError, match=r"mathvision: could not read .*Offline"):
        benchmarks.load("mathvision", tmp_path)
