"""The tiny world's held-out file as a benchmark."""

import asyncio
import io
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from examples.tiny_world import benchmark, tables, world
from verl_axpo.data import parquet


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    parquet.write(tmp_path / "heldout.parquet", map(tables.rl_row, world.examples("heldout", 9, 0)))
    return tmp_path


def test_questions_are_those_of_the_world(folder: Path) -> None:
    whole = [example for example in world.examples("heldout", 9, 0) if example.family.NAME == "perception"]
    problems = {str(example.index): example.problem for example in whole}
    questions = benchmark.load("perception", folder)
    assert [(question.uid, question.prompt, question.ground_truth) for question in questions] == [
        (uid, problem.question, problem.answer) for uid, problem in problems.items()
    ]
    picture = Image.open(io.BytesIO(questions[0].images[0]))
    assert picture.tobytes() == problems["0"].images[0].tobytes()
    assert benchmark.load("perception", folder / "heldout.parquet", limit=2) == questions[:2]
    assert benchmark.load("perception", limit=3) == questions  # made on the spot


@pytest.mark.parametrize(("answer", "right"), [("Lines ", True), ("bars", False), (None, False)])
def test_scores_are_exact_match(folder: Path, answer: str | None, right: bool) -> None:
    question = replace(benchmark.load("perception", folder)[0], ground_truth="lines")
    assert asyncio.run(benchmark.score(question, answer, None)).correct is right


def test_bad_sources_say_what_was_expected(folder: Path) -> None:
    with pytest.raises(ValueError, match="no file"):
        benchmark.load("perception", folder / "nowhere")
    with pytest.raises(ValueError, match="choose from"):
        benchmark.load("chess", folder)
    parquet.write(folder / "one.parquet", map(tables.rl_row, world.examples("heldout", 2, 0, ["search"])))
    with pytest.raises(ValueError, match=r"no question of this family .*--families perception"):
        benchmark.load("perception", folder / "one.parquet")
    pq.write_table(pa.table({"prompt": ["x"]}), folder / "other.parquet")
    with pytest.raises(ValueError, match=r"columns \['data_source'.* are missing"):
        benchmark.load("perception", folder / "other.parquet")
