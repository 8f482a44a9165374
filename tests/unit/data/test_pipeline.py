"""`verl-axpo data` from raw files to the two sets: the funnel's numbers, and what an interrupted run keeps."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples.tiny_world import fixtures
from examples.tiny_world.fixtures import encoded, picture
from examples.tiny_world.mirror import app, serving
from verl_axpo import prompts
from verl_axpo.cli import main
from verl_axpo.data import parquet
from verl_axpo.data.images import ImageStore
from verl_axpo.data.problem import Problem, read_problems
from verl_axpo.eval import benchmarks
from verl_axpo.eval.types import Question
from verl_axpo.tools.paper_tools import IMAGE_ZOOM_IN

SOURCES = ("virl39k", "fvqa", "pyvision", "mmfinereason")
ROWS = 12
TOOLS = [IMAGE_ZOOM_IN]
MANY = 200  # rows, enough to be interrupted among them


# The benchmarks that this module's registry does not have
UNNOTED = [word for name in benchmarks.names() if name != "vstar" for word in ("--without-benchmark", name)]


class Cli:
    """The command in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], work: Path) -> None:
        self.monkeypatch, self.capsys, self.work = monkeypatch, capsys, work

    def __call__(self, command: str, *arguments: object) -> str:
        """What `verl-axpo data COMMAND ...` prints; raises SystemExit with its status."""
        words = ["verl-axpo", "data", command, *map(str, arguments), "--work", str(self.work)]
        self.monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
        out = " ".join(self.capsys.readouterr().out.split())  # Rich wraps lines
        if ended.value.code:
            raise SystemExit(out)
        return out


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    fixtures.make(tmp_path / "raw", ROWS, 0)
    return Cli(monkeypatch, capsys, tmp_path)


def names() -> tuple[str, ...]:
    """This module is a registry of benchmarks, as `--registry` takes it."""
    return ("vstar", "hrbench")


def load(name: str, source: str | None = None) -> list[Question]:
    """One question, on a picture of FVQA for `vstar`, on the file at `source` for the other."""
    data = Path(source).read_bytes() if source else encoded(picture("fvqa/0/0"), "JPEG")
    return [
        Question(benchmark=name, uid="0", prompt="<image>Else?", ground_truth="A", answer_type="choice", images=(data,))
    ]


def crop(store: ImageStore) -> str:
    """An image that a tool returned."""
    return store.add(encoded(picture("crop"))).sha256


def teacher_lines(problems: list[Problem], image: str) -> list[dict[str, Any]]:
    """Four attempts at each: the first problem is never solved; the others always, with a tool in the last attempt."""
    lines = []
    for index, problem in enumerate(problems):
        for sample in range(4):
            uses_tool = sample == 3
            call = prompts.tool_call("image_zoom_in", {"bbox_2d": [0, 0, 500, 500], "label": "x"})
            shown = [prompts.assistant_turn("look", call), {"role": "tool", "content": "<image>"}]
            final = prompts.assistant_turn("so", prompts.answer(problem.answer))
            lines.append(
                {
                    "problem_id": problem.id,
                    "model": "teacher",
                    "sample": sample,
                    "correct": index > 0,
                    "tool_calls": int(uses_tool),
                    "turns": [*(shown if uses_tool else []), final],
                    "images": [image] if uses_tool else [],
                }
            )
    return lines


def student_lines(problems: list[Problem]) -> list[dict[str, Any]]:
    """Four attempts at each; every second problem is always solved, the others half the time."""
    return [
        {
            "problem_id": problem.id,
            "model": "student",
            "sample": sample,
            "correct": bool(index % 2 == 0 or sample % 2),
            "tool_calls": 0,
        }
        for index, problem in enumerate(problems)
        for sample in range(4)
    ]


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def prepared(cli: Cli) -> tuple[Path, Path]:
    """Ingested and de-duplicated; the two models' rollouts."""
    for name in SOURCES:
        cli("ingest", name)
    cli("benchmarks", "--registry", __name__, "--benchmark", "vstar")
    cli("dedup", *UNNOTED)
    problems = list(read_problems(cli.work / "dedup/problems.jsonl"))
    image = crop(ImageStore(cli.work / "images"))
    teacher = write(cli.work / "teacher.jsonl", teacher_lines(problems, image))
    return teacher, write(cli.work / "student.jsonl", student_lines(problems))


SFT = ("--tools", "zoom", "--teacher", "teacher", "--val", 2)
RL = (*SFT[:-2], "--student", "student", "--hard", 3, "--val", 2)


def stage(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "stage.json").read_text())
    return record


def test_the_funnel_from_raw_files_to_the_card(cli: Cli) -> None:
    teacher, student = prepared(cli)
    cli("sft", "--rollouts", teacher, *SFT, "--embed")
    cli("filter", "--rollouts", teacher, "--rollouts", student, *RL, "--embed")

    # 12 rows of three sources; FVQA's first is on a benchmark's picture: 35. Of MMFineReason 6 are hard, the first of
    # which repeats ViRL39K's first: 5.
    dedup = stage(cli.work / "dedup")["numbers"]
    assert (dedup["problems"], dedup["dropped_against"], dedup["dropped_inside"], dedup["kept"]) == (42, 1, 1, 40)
    dropped = [json.loads(line) for line in (cli.work / "dedup/dropped.jsonl").read_text().splitlines()]
    assert [(drop["id"], drop["same_as"], drop["by"]) for drop in dropped] == [
        ("fvqa/fvqa_train_0", "vstar/0", "image"),
        ("mmfinereason/fixture/0", "virl39k/fixture-0", "image and question"),
    ]
    counted = r"| dropped_by: fvqa \| against \| vstar \| image | 1 |"
    assert counted in (cli.work / "dedup/card.md").read_text()

    # The teacher solves 34 of 35, each with and without a tool: one of each is taken, a quarter of them with a tool.
    sft = stage(cli.work / "sft")["numbers"]
    assert (sft["problems_attempted"], sft["problems_solved"], sft["wrong"]) == (35, 34, 4)
    assert sft["selected_tool_share"] == pytest.approx(0.25, abs=1 / 33)
    rows = list(parquet.iter_rows(cli.work / "sft/train.parquet"))
    held_out = list(parquet.iter_rows(cli.work / "sft/val.parquet"))
    assert len(rows) + len(held_out) == sft["selected"] >= 32
    assert len(held_out) == 2
    for row in rows + held_out:
        text = "".join(message["content"] for message in row["messages"])
        assert text.count("<image>") == len(row["images"])
        assert json.loads(row["tools"]) == prompts.tool_schemas(TOOLS)
        assert row["messages"][0]["content"] == prompts.system_prompt(TOOLS)

    # RL: the first is never solved by the teacher; of those in SFT the student solves those of even place 4 of 4.
    rl = stage(cli.work / "rl")["numbers"]
    problems = [problem.id for problem in read_problems(cli.work / "dedup/problems.jsonl")]
    taught = {json.loads(line)["problem_id"] for line in (cli.work / "sft/selected.jsonl").read_text().splitlines()}
    kept = {name for index, name in enumerate(problems) if index % 2 and name in taught}
    assert (rl["dropped_teacher_fails_all"], rl["kept"], rl["hard_drawn"]) == (1, len(kept), 3)
    questions = [row for part in ("train", "val") for row in parquet.iter_rows(cli.work / f"rl/{part}.parquet")]
    assert len(questions) == rl["total"] == len(kept) + 3
    assert {row["extra_info"]["id"] for row in questions if row["data_source"] != "mmfinereason"} == kept
    fvqa = next(row for row in questions if row["data_source"] == "fvqa")
    index = int(fvqa["extra_info"]["id"].rpartition("_")[2])
    assert fvqa["reward_model"] == {"style": "rule", "ground_truth": f"Town {index}"}
    assert (fvqa["extra_info"]["answer_type"], fvqa["extra_info"]["aliases"]) == (
        "short_text",
        [f"the town of {index}"],
    )
    assert fvqa["images"] == [{"bytes": encoded(picture(f"fvqa/0/{index}"))}]
    assert fvqa["prompt"] == prompts.prompt_messages(f"<image>Which town is landmark {index} in?", TOOLS)

    card = json.loads((cli.work / "rl/card.json").read_text())
    names = [record["stage"] for record in card["stages"]]
    assert names == [*(f"ingest {name}" for name in sorted(SOURCES)), "dedup", "sft", "rl"]
    assert card["stages"][-1]["numbers"] == rl
    assert "| dropped_teacher_fails_all | 1 |" in (cli.work / "rl/card.md").read_text()


def test_a_second_run_does_nothing_and_a_changed_input_does_what_follows(cli: Cli) -> None:
    teacher, _ = prepared(cli)
    cli("sft", "--rollouts", teacher, *SFT)
    made = {path: path.stat().st_mtime_ns for path in cli.work.rglob("*.parquet")}
    for name in SOURCES:
        assert "nothing has changed" in cli("ingest", name)
    assert "nothing has changed" in cli("dedup", *UNNOTED)
    assert "nothing has changed" in cli("sft", "--rollouts", teacher, *SFT)
    assert made == {path: path.stat().st_mtime_ns for path in cli.work.rglob("*.parquet")}
    assert "nothing has changed" not in cli("sft", "--rollouts", teacher, *SFT, "--seed", 1)
    fixtures.fvqa(cli.work / "raw/fvqa", fixtures.items_of("fvqa", ROWS + 1, 0))
    assert "nothing has changed" not in cli("ingest", "fvqa")
    assert "nothing has changed" not in cli("dedup", *UNNOTED)


def test_images_stay_in_the_store_unless_asked_for(cli: Cli) -> None:
    teacher, student = prepared(cli)
    cli("sft", "--rollouts", teacher, *SFT)
    cli("filter", "--rollouts", teacher, "--rollouts", student, *RL)
    for file in ("sft/train.parquet", "rl/train.parquet"):
        row = next(parquet.iter_rows(cli.work / file))
        (image,) = row["images"][:1]
        assert Path(image["image"]).parent.parent == cli.work / "images"
        assert Path(image["image"]).is_file()


def test_an_rl_set_is_written_to_out_with_its_own_card(cli: Cli) -> None:
    teacher, student = prepared(cli)
    cli("sft", "--rollouts", teacher, *SFT)
    told = cli("filter", "--rollouts", teacher, "--rollouts", student, *RL, "--out", cli.work / "rl_4b")
    assert "nothing has changed" not in told
    assert sorted(path.name for path in (cli.work / "rl_4b").glob("*.parquet")) == ["train.parquet", "val.parquet"]
    assert "## rl" in (cli.work / "rl_4b/card.md").read_text()
    assert not (cli.work / "rl").exists()


def test_a_local_copy_of_a_benchmark_is_kept_out(cli: Cli) -> None:
    for name in SOURCES:
        cli("ingest", name)
    (cli.work / "copy.png").write_bytes(encoded(picture("pyvision/0/3").resize((320, 320))))
    told = cli("benchmarks", "--registry", __name__, "--source", f"hrbench={cli.work / 'copy.png'}")
    assert "2 questions of vstar, hrbench (local) in" in told
    cli("dedup", *UNNOTED)
    dropped = (cli.work / "dedup/dropped.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in dropped[:2]] == ["fvqa/fvqa_train_0", "pyvision/deepeyes/3"]
    assert "dropped_against: 0" in cli("dedup", "--without-benchmarks")


def dropped_ids(cli: Cli) -> list[str]:
    return [json.loads(line)["id"] for line in (cli.work / "dedup/dropped.jsonl").read_text().splitlines()]


def test_entries_that_are_added_never_replace_the_benchmarks(cli: Cli) -> None:
    for name in ("fvqa", "pyvision"):
        cli("ingest", name)
    (cli.work / "copy.png").write_bytes(encoded(picture("pyvision/0/3")))
    copy = ("--registry", __name__, "--benchmark", "hrbench", "--source", f"hrbench={cli.work / 'copy.png'}")
    cli("benchmarks", "--registry", __name__, "--benchmark", "vstar")
    more = Path(shutil.copy(cli.work / "benchmarks.jsonl", cli.work / "vstar.jsonl"))
    cli("benchmarks", *copy)
    cli("dedup", *UNNOTED)
    assert dropped_ids(cli) == ["fvqa/fvqa_train_0", "pyvision/deepeyes/3"]
    (cli.work / "benchmarks.jsonl").rename(cli.work / "both.jsonl")
    cli("benchmarks", *copy)
    cli("dedup", "--against", more, *UNNOTED)
    assert dropped_ids(cli) == ["fvqa/fvqa_train_0", "pyvision/deepeyes/3"]
    cli("dedup", "--against", more, "--without-benchmarks")
    assert dropped_ids(cli) == ["fvqa/fvqa_train_0"]


def test_a_benchmark_that_is_noted_again_takes_its_own_place_alone(cli: Cli) -> None:
    cli("benchmarks", "--registry", __name__, "--benchmark", "vstar")
    for size in (20, 30):
        (cli.work / "copy.png").write_bytes(encoded(picture("a").resize((size, size))))
        source = f"hrbench={cli.work / 'copy.png'}"
        cli("benchmarks", "--registry", __name__, "--benchmark", "hrbench", "--source", source)
    lines = [json.loads(line) for line in (cli.work / "benchmarks.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["vstar/0", "hrbench/0"]


def test_a_benchmark_that_is_missing_is_refused_unless_it_is_named(cli: Cli) -> None:
    cli("ingest", "fvqa")
    cli("benchmarks", "--registry", __name__, "--benchmark", "vstar")
    named = r"mathvision, .*run `verl-axpo data benchmarks --benchmark mathvision .*--without-benchmark mmsearch"
    with pytest.raises(SystemExit, match=named):
        cli("dedup")
    with pytest.raises(SystemExit, match="has no questions of mmsearch, which must be kept out"):
        cli("dedup", *UNNOTED[:-2])
    with pytest.raises(SystemExit, match=r"without-benchmark: got \['mmmu'\], expected names of"):
        cli("dedup", *UNNOTED, "--without-benchmark", "mmmu")
    assert not (cli.work / "dedup").exists()


def test_long_texts_go_to_a_judge_where_that_is_asked_for(cli: Cli) -> None:
    assert "answer_types: {'short_text': 12}" in cli("ingest", "fvqa")
    assert "answer_types: {'judge': 12}" in cli("ingest", "fvqa", "--judge-above-words", 1)  # "Town 3"
    assert {problem.answer_type for problem in read_problems(cli.work / "problems/fvqa/problems.jsonl")} == {"judge"}


def test_fetch_brings_a_source_and_check_reads_it(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> None:
    hub = tmp_path_factory.mktemp("hub")
    (hub / "TIGER-Lab").mkdir()
    held = (cli.work / "raw/virl39k").rename(hub / "TIGER-Lab/ViRL39K")
    with serving(app(hub)) as url:
        told = cli("fetch", "virl39k", "--endpoint", url)
        assert f"images.zip: {(held / 'images.zip').stat().st_size:,} bytes" in told
        assert "0 bytes brought" in cli("fetch", "virl39k", "--endpoint", url)
    assert "rows: 12 rows_documented: 38870 bad: 0" in cli("check", "virl39k")
    with pytest.raises(SystemExit, match="the same command goes on from there"):  # the server is gone
        cli("fetch", "fvqa", "--endpoint", url)


def test_users_mistakes_are_reported_in_a_line(cli: Cli) -> None:
    with pytest.raises(
        SystemExit, match=r"dedup: .* has no questions of mathvision, .*mmsearch, which must be kept out of training"
    ):
        cli("dedup")
    with pytest.raises(SystemExit, match=r"benchmarks: got \['mmmu'\], expected names of \['vstar', 'hrbench'\]"):
        cli("benchmarks", "--registry", __name__, "--benchmark", "mmmu")
    with pytest.raises(SystemExit, match=r"source: got \['copy'\]; expected NAME=VALUE with a name of"):
        cli("benchmarks", "--registry", __name__, "--source", "copy")
    with pytest.raises(SystemExit, match=r"problems.jsonl: no such file; run the stage that makes it first"):
        cli("sft", "--rollouts", cli.work / "none.jsonl", *SFT)
    prepared(cli)
    with pytest.raises(SystemExit, match=r"136 correct trajectories have no number of tokens"):  # 4 of 34 problems
        cli("sft", "--rollouts", cli.work / "teacher.jsonl", *SFT, "--max-tokens", 100)
    with pytest.raises(SystemExit, match="tools: got 'hammer', expected a YAML file or one of"):
        cli("sft", "--rollouts", cli.work / "teacher.jsonl", "--tools", "hammer", "--teacher", "teacher")


def lost(path: Path) -> None:
    path.unlink()


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # one bit, of a file as long as before
    path.write_bytes(content)


def torn(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def first_line_torn(path: Path) -> None:
    index = path.parents[1] / "index.jsonl"
    lines = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(b"".join([lines[0][:20] + b"\n", *lines[1:]]))


@pytest.mark.parametrize("accident", [lost, damaged, torn, first_line_torn])
def test_an_image_that_is_lost_damaged_or_torn_is_repaired_by_the_command_that_the_reader_names(
    cli: Cli, accident: Callable[[Path], None]
) -> None:
    from verl_axpo.data.rows import rl_row

    cli("ingest", "fvqa")
    problem = next(read_problems(cli.work / "problems/fvqa/problems.jsonl"))
    whole = ImageStore(cli.work / "images").read(problem.images[0])
    assert "nothing has changed" in cli("ingest", "fvqa")
    accident(ImageStore(cli.work / "images").path(problem.images[0]))
    for embed in (True, False):
        with pytest.raises(ValueError, match="run `verl-axpo data ingest fvqa` again"):
            rl_row(problem, 0, "train", TOOLS, ImageStore(cli.work / "images"), embed)
    assert "nothing has changed" not in cli("ingest", "fvqa")
    assert ImageStore(cli.work / "images").read(problem.images[0]) == whole
    assert "nothing has changed" in cli("ingest", "fvqa")


def test_images_by_older_rules_are_ingested_again(cli: Cli) -> None:
    cli("ingest", "fvqa")
    index = cli.work / "images/index.jsonl"
    index.write_text(index.read_text().replace('"version":2', '"version":1'))
    assert "nothing has changed" not in cli("ingest", "fvqa")
    assert len(ImageStore(cli.work / "images").records) == ROWS


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"images": []}, r"trajectory 3 of teacher on .*: got in its turns 1 <image> for 0 image\(s\)"),
        ({"images": ["0" * 64]}, r"image 0{64}: not in .*; run `verl-axpo data collect` again"),
        ({"turns": []}, r"got turns \[\], expected some that end with the assistant's"),
        ({"turns": "none"}, r"teacher.jsonl at byte \d+: turns: got 'none', expected"),
    ],
)
def test_a_trajectory_that_cannot_be_a_row_is_named(cli: Cli, change: dict[str, Any], told: str) -> None:
    prepared(cli)
    lines = [json.loads(line) for line in (cli.work / "teacher.jsonl").read_text().splitlines()]
    broken = [line | change if line["sample"] == 3 else line for line in lines]
    with pytest.raises(SystemExit, match=told):
        cli("sft", "--rollouts", write(cli.work / "teacher.jsonl", broken), *SFT)
    assert not (cli.work / "sft/train.parquet").exists()


# --- broken off in the middle ---------------------------------------------------------------------------------------

COMMAND = "import sys; from verl_axpo.cli import main; main()"


def ingesting(work: Path, **options: Any) -> "subprocess.Popen[str]":
    """`verl-axpo data ingest virl39k` in a process of its own."""
    words = [sys.executable, "-c", COMMAND, "data", "ingest", "virl39k", "--work", str(work)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, **options)


def finished(work: Path) -> dict[str, Any]:
    """Run the same command again, to its end; the numbers."""
    process = ingesting(work)
    assert process.wait() == 0
    numbers: dict[str, Any] = stage(work / "problems/virl39k")["numbers"]
    return numbers


def stored_images(work: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (work / "images").rglob("*.png")}


def test_a_killed_run_keeps_its_images_and_the_next_one_finishes(tmp_path: Path) -> None:
    fixtures.virl39k(tmp_path / "raw/virl39k", fixtures.items_of("virl39k", MANY, 0))
    process, index = ingesting(tmp_path), tmp_path / "images/index.jsonl"
    while not (index.exists() and index.read_bytes().count(b"\n") >= 20):
        assert process.poll() is None
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = stored_images(tmp_path)
    assert 20 <= len(kept) < MANY
    assert not (tmp_path / "problems/virl39k/problems.jsonl").exists()
    assert finished(tmp_path)["problems"] == MANY
    after = stored_images(tmp_path)
    assert len(after) == MANY
    listed = {json.loads(line)["file"] for line in index.read_text().splitlines()}
    untouched = [path for path, when in kept.items() if after[path] == when]
    assert len(untouched) >= len(kept) - 1  # the last one may have been stored and not yet listed
    assert {path.relative_to(tmp_path / "images").as_posix() for path in after} == listed


def test_a_full_disk_is_reported_and_keeps_what_was_done(tmp_path: Path) -> None:
    fixtures.virl39k(tmp_path / "raw/virl39k", fixtures.items_of("virl39k", MANY, 0))
    limit = 20_000  # bytes a file may have: the index of images reaches it after some 80 of them

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = ingesting(tmp_path, preexec_fn=small_files)
    told, _ = process.communicate()
    assert process.returncode == 2
    assert f"File too large: '{tmp_path}/images/index.jsonl'" in " ".join(told.split())
    kept = stored_images(tmp_path)
    assert 40 < len(kept) < 160
    assert not (tmp_path / "problems/virl39k/stage.json").exists()
    assert finished(tmp_path)["problems"] == MANY
    after = stored_images(tmp_path)
    assert sum(after[path] == when for path, when in kept.items()) >= len(kept) - 1
