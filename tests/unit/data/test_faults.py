"""Each stage of the data, killed at every write and on a full disk: the next run finishes it as if nothing was.

prepared() -> a workspace where everything but the stage at hand is done -> faults -> the stage again -> same outputs
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from examples.tiny_world import fixtures
from examples.tiny_world.fixtures import encoded, picture
from tests.unit.data.test_collect import run, score, turn
from tests.unit.data.test_collect import write as write_run
from tests.unit.data.test_pipeline import student_lines, teacher_lines, write
from tests.unit.disk_faults import disk_full, killed_at_each_write
from verl_axpo.data.collect import collect
from verl_axpo.data.entries import note_benchmarks
from verl_axpo.data.images import ImageStore
from verl_axpo.data.pipeline import dedup_sources, ingest_source, make_rl, make_sft
from verl_axpo.data.problem import read_problems
from verl_axpo.data.select_rl import RlConfig
from verl_axpo.data.select_sft import SftConfig
from verl_axpo.data.sources import source_of
from verl_axpo.data.workspace import Workspace
from verl_axpo.eval.types import Question
from verl_axpo.tools.paper_tools import IMAGE_ZOOM_IN

ROWS = 3
TOOLS = [IMAGE_ZOOM_IN]
FREE_BYTES = (0, 700, 3_000)
Stage = Callable[[Path], object]


def load(name: str, source: str | None = None) -> list[Question]:
    return [Question(benchmark=name, uid="0", prompt=f"Who {name}?", ground_truth="A", answer_type="short_text")]


REGISTRY = SimpleNamespace(names=lambda: ("vstar", "other"), load=load)


def ingesting(root: Path) -> object:
    return ingest_source(Workspace(root), source_of("virl39k"), root / "raw/virl39k", 0.0)


def noting(root: Path) -> object:
    return note_benchmarks(Workspace(root), REGISTRY, None, (), ())


def deduplicating(root: Path) -> object:
    return dedup_sources(Workspace(root), ["virl39k"], [root / "benchmarks.jsonl"])


def collecting(root: Path) -> object:
    return collect(root / "run", "teacher", root / "collected.jsonl", Workspace(root).store())


def choosing(root: Path) -> object:
    config = SftConfig(tool_share=None, val=1)
    return make_sft(Workspace(root), [root / "teacher.jsonl"], "teacher", TOOLS, config, embed=True)


def filtering(root: Path) -> object:
    files, config = [root / "teacher.jsonl", root / "student.jsonl"], RlConfig(val=0)
    return make_rl(Workspace(root), files, "teacher", "student", TOOLS, config, embed=True)


STAGES: dict[str, tuple[Stage, str]] = {
    "ingest": (ingesting, "problems/virl39k/*.jsonl"),
    "benchmarks": (noting, "benchmarks.jsonl"),
    "dedup": (deduplicating, "dedup/*"),
    "collect": (collecting, "collected.jsonl"),
    "sft": (choosing, "sft/*"),
    "filter": (filtering, "rl/*"),
}


def agent_run(root: Path, names: list[str]) -> None:
    (root / "run").mkdir()
    (root / "run/a.png").write_bytes(encoded(picture("a")))
    turns = [turn("look", [{"text": "", "images": ["a.png"]}]), turn("</think><answer>1</answer>")]
    write_run(root / "run", [run(name, turns=turns) for name in names], [score(name, True) for name in names])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By stage: a workspace in which the stages before it are done."""
    before: dict[str, Path] = {}
    root = tmp_path_factory.mktemp("undisturbed")
    fixtures.virl39k(root / "raw/virl39k", fixtures.items_of("virl39k", ROWS, 0))
    for name, (stage, _) in STAGES.items():
        if name == "collect":
            problems = list(read_problems(root / "dedup/problems.jsonl"))
            agent_run(root, [problem.id for problem in problems])
            image = ImageStore(root / "images").add(encoded(picture("crop"))).sha256
            write(root / "teacher.jsonl", teacher_lines(problems, image))
            write(root / "student.jsonl", student_lines(problems))
        before[name] = tmp_path_factory.mktemp("before") / name
        shutil.copytree(root, before[name])
        stage(root)
    before["all"] = root
    return before


def made(root: Path, pattern: str) -> dict[str, Any]:
    """What a stage wrote, by name. Records and cards name the folder too: only a record's numbers are compared."""
    files = {path.name: path.read_bytes() for path in sorted(root.glob(pattern)) if not path.name.startswith("card.")}
    record = files.pop("stage.json", b"{}")
    return {**files, "numbers": json.loads(record).get("numbers")}


@pytest.mark.parametrize("name", STAGES)
def test_a_kill_at_any_write_loses_nothing_that_was_finished(name: str, done: dict[str, Path], tmp_path: Path) -> None:
    stage, pattern = STAGES[name]
    expected = made(done["all"], pattern)
    for told, root in killed_at_each_write(stage, done[name], tmp_path / "scratch"):
        stage(root)
        assert made(root, pattern) == expected, told
        assert all(ImageStore(root / "images").read(key) for key in ImageStore(done[name] / "images").records), told


@pytest.mark.parametrize("name", STAGES)
def test_a_full_disk_is_reported_and_with_space_again_the_stage_finishes(
    name: str, done: dict[str, Path], tmp_path: Path
) -> None:
    stage, pattern = STAGES[name]
    for free_bytes in FREE_BYTES:
        root = tmp_path / str(free_bytes)
        shutil.copytree(done[name], root)
        error = disk_full(stage, root, free_bytes)
        assert error is None or "No space left" in error or "the disk took only part of a line" in error
        assert free_bytes or error
        stage(root)
        assert made(root, pattern) == made(done["all"], pattern)
