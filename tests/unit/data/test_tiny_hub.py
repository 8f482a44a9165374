"""The tiny world under the names of the real datasets: each is read like the real one, and has as many rows."""

from pathlib import Path

import pytest

from examples.tiny_world import world
from examples.tiny_world.hub import publish
from verl_axpo.data.entries import note_benchmarks
from verl_axpo.data.pipeline import dedup_sources, ingest_source
from verl_axpo.data.problem import read_problems
from verl_axpo.data.sources import SOURCES
from verl_axpo.data.workspace import Workspace
from verl_axpo.eval import benchmarks

ROWS = 32  # 8 of each source
COUNTS = {"mathvision": 304, "dynamath": 501, "vstar": 191, "visualprobe": 106, "hrbench_4k": 200, "hrbench_8k": 200}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tiny") / "hub"
    publish(out, ROWS, 0, ["perception"])
    return out


def test_the_sources_ask_the_worlds_questions_and_dedup_finds_the_two_known_repetitions(
    hub: Path, tmp_path: Path
) -> None:
    work = Workspace(tmp_path)
    for source in SOURCES.values():
        numbers, _ = ingest_source(work, source, hub / source.repo, max_bad=0.0)
        assert numbers["rows"] == ROWS / 4
    copies = [f"{name}={hub / benchmarks.get(name).source.repo}" for name in benchmarks.names()]
    note_benchmarks(work, benchmarks, None, copies, ())  # asserts the documented counts
    numbers, _ = dedup_sources(work, list(SOURCES), [work.benchmarks])
    # of MMFineReason's eight, the four that Qwen3-VL-4B never solves, less the one that ViRL39K has
    assert numbers["kept_by_source"] == {"virl39k": 8, "fvqa": 8, "pyvision": 7, "mmfinereason": 3}
    assert numbers["dropped_by"] == {
        "mmfinereason | inside | virl39k | image and question": 1,
        "pyvision | against | vstar | image and question": 1,
    }
    asked = {
        example.problem.question.replace("<image>", "") for example in world.examples("train", ROWS, 0, ["perception"])
    }
    kept = [problem for name in ("problems", "hard") for problem in read_problems(work.dedup / f"{name}.jsonl")]
    assert {problem.question.replace("<image>", "").strip() for problem in kept} <= asked


@pytest.mark.parametrize(("name", "count"), [*COUNTS.items(), ("hr_mmsearch", 305), ("mmsearch", 300)])
def test_a_benchmark_has_as_many_questions_as_documented(hub: Path, name: str, count: int) -> None:
    assert len(benchmarks.load(name, hub / benchmarks.get(name).source.repo)) == count


def test_what_cannot_be_published_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rows: got 3, expected 4 or more, one for each of"):
        publish(tmp_path, 3, 0, ["perception"])
    with pytest.raises(ValueError, match="search: got a question with 0 pictures, expected one"):
        publish(tmp_path, 4, 0, ["search"])
    assert list(tmp_path.iterdir()) == []
