"""The study's rows: a run's folder -> a row -> the same numbers; differences and tests by hand."""

import json
from math import nan
from pathlib import Path

import orjson
import pytest
from PIL import Image

from tests.unit.trace.conftest import K, make_step
from verl_axpo.core.config import AxpoConfig
from verl_axpo.report.heldout import HeldOut, write_heldout
from verl_axpo.report.runs import write_run_info
from verl_axpo.report.stats import Outcome
from verl_axpo.report.study import add, has, read_rows
from verl_axpo.report.study_page import arms_table, seed_interval, seed_test, write_study
from verl_axpo.trace import TraceWriter, store_image

RIGHT, WRONG = Outcome(True, True), Outcome(False, False)


def held(*groups: list[Outcome]) -> HeldOut:
    return HeldOut(questions={f"q{at}": group for at, group in enumerate(groups)}, rollouts=2)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of one step, with its trace; before training one of four answers is right, afterwards three are."""
    folder = tmp_path / "run"
    image = store_image(folder / "trace", Image.new("RGB", (4, 3)))
    with TraceWriter(folder / "trace") as writer:
        writer.write_step(*make_step(1, AxpoConfig(num_continuations=K), image))
    write_heldout(folder, "before", held([RIGHT, WRONG], [WRONG, WRONG]))
    write_heldout(folder, "after", held([RIGHT, RIGHT], [RIGHT, WRONG]))
    write_run_info(folder, "axpo", 0)
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "data": {"timing_s/step": 7.4}}) + "\n")
    (folder / "checkpoints").mkdir()
    settings = {"data.seed": 0, "actor_rollout_ref.model.path": "/somewhere"}
    (folder / "checkpoints/settings.json").write_bytes(orjson.dumps({"finished": True, "settings": settings}))
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft/model.safetensors").write_bytes(b"weights")
    return folder


def test_a_row_keeps_what_the_page_needs(run: Path, tmp_path: Path) -> None:
    rows = tmp_path / "runs.jsonl"
    assert not has(rows, "grpo", 0, tmp_path / "sft")
    assert add(rows, run, "grpo", 0, tmp_path / "sft") == ["sft", "grpo"]
    assert has(rows, "grpo", 0, tmp_path / "sft")
    sft, grpo = read_rows(rows)
    assert sft.run.heldout["after"].estimate("pass_1").value == 0.25
    assert grpo.run.heldout["after"].questions == held([RIGHT, RIGHT], [RIGHT, WRONG]).questions
    assert grpo.run.series("timing_s/step") == {1: 7.4}
    assert grpo.run.series("axpo/tool_use_rate").keys() == {1}
    assert grpo.facts["audit"]["differences"] == 0
    with pytest.raises(ValueError, match="has a row of grpo, seed 0; remove it"):
        add(rows, run, "grpo", 0, tmp_path / "sft")


def test_a_file_has_runs_of_one_sft_model(run: Path, tmp_path: Path) -> None:
    rows, other = tmp_path / "runs.jsonl", tmp_path / "other"
    add(rows, run, "grpo", 0, tmp_path / "sft")
    other.mkdir()
    (other / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(ValueError, match=r"has runs of the SFT model .*keep runs of another model or world"):
        has(rows, "axpo", 0, other)
    with pytest.raises(ValueError, match="has runs of the SFT model"):
        add(rows, run, "axpo", 0, other)


def test_the_settings_hash_leaves_folders_out(run: Path, tmp_path: Path) -> None:
    rows, settings = tmp_path / "runs.jsonl", run / "checkpoints/settings.json"
    add(rows, run, "grpo", 0, tmp_path / "sft")
    settings.write_text(settings.read_text().replace("/somewhere", "/elsewhere"))
    add(rows, run, "axpo", 0, tmp_path / "sft")
    settings.write_text(settings.read_text().replace('"data.seed":0', '"data.seed":1'))
    add(rows, run, "axpo", 1, tmp_path / "sft")
    same, also, other = [study.facts["settings"] for study in read_rows(rows) if study.run.arm != "sft"]
    assert same == also != other


def test_a_run_with_a_difference_gets_no_row(run: Path, tmp_path: Path) -> None:
    records = run / "trace/step_000001.jsonl"
    *others, last = records.read_text().splitlines()
    records.write_text("\n".join([*others, json.dumps({**json.loads(last), "advantage": 9.0})]) + "\n")
    with pytest.raises(ValueError, match=r"the audit of .* finds 1 differences"):
        add(tmp_path / "runs.jsonl", run, "axpo", 0, tmp_path / "sft")


def test_the_page_is_made_of_rows_alone(run: Path, tmp_path: Path) -> None:
    rows, out = tmp_path / "runs.jsonl", tmp_path / "page"
    add(rows, run, "grpo", 0, tmp_path / "sft")
    write_heldout(run, "after", held([RIGHT, RIGHT], [RIGHT, RIGHT]))
    add(rows, run, "axpo", 0, tmp_path / "sft")
    text = write_study(rows, out).read_text()
    assert "| SFT + AXPO | 1 of 5 | 100.0 | 100.0 | 100.0 |" in text
    assert "| SFT + GRPO | Pass@1 | 1 | +25.0 [+0.0, +50.0]" in text  # 0 and 50 points on the two questions
    assert "SFT + GRPO, rollouts 2x (0 of 5)" in text
    assert (out / "tool_use_rate.svg").exists()
    picture = (out / "comparison.svg").read_text()
    assert all(f"<!-- {words} -->" in picture for words in ("SFT", "GRPO", "AXPO", "25.0", "75.0", "100.0"))
    assert "rollouts 2x" not in picture
    assert write_study(rows, out).read_text() == text
    add(rows, run, "cispo", 0, tmp_path / "sft")  # three seeds are planned for it: in tables only
    text = write_study(rows, out).read_text()
    assert "cispo: last fifth" in text
    assert "cispo: first fifth" not in text
    assert (out / "comparison.svg").read_text() == picture


def test_unknown_arms_and_damaged_rows_are_refused(tmp_path: Path) -> None:
    rows = tmp_path / "runs.jsonl"
    with pytest.raises(ValueError, match=r"got the arm 'ppo'; choose from \['sft', 'grpo'"):
        has(rows, "ppo", 0, tmp_path)
    with pytest.raises(ValueError, match=r"has no rows; run bash recipes/study\.sh"):
        write_study(rows, tmp_path)
    rows.write_text('{"arm": "grpo"}\n')
    with pytest.raises(ValueError, match="a line is no row of the study"):
        read_rows(rows)


def test_a_seed_without_such_a_subgroup_leaves_the_others_their_mean(run: Path, tmp_path: Path) -> None:
    calls, answers_at_once = [Outcome(False, True)] * 2, [Outcome(True, False)] * 2
    for seed, answers in enumerate((calls, answers_at_once)):
        write_heldout(run, "after", held(answers))
        add(tmp_path / "runs.jsonl", run, "cispo", seed, tmp_path / "sft")
    rows = {row["arm"]: row for row in arms_table(read_rows(tmp_path / "runs.jsonl")).rows}
    assert rows["CISPO"]["tool all wrong %"] == "100.0"
    assert rows["CISPO"]["seeds"] == "2 of 3"


def test_tests_over_seeds_by_hand() -> None:
    assert seed_test([0.1, 0.2]) == 0.5  # 0.3 and -0.3, of 0.3, -0.1, 0.1, -0.3
    assert seed_test([0.1] * 5) == 2 / 32
    assert seed_test([0.0, 0.0]) == 1.0
    low, high = seed_interval([0.0, 0.2])
    assert (low, high) == pytest.approx((0.1 - 12.7062 * 0.1, 0.1 + 12.7062 * 0.1), abs=1e-4)
    assert seed_interval([0.1]) == pytest.approx((nan, nan), nan_ok=True)


def test_runs_of_another_sft_model_are_kept_apart(run: Path, tmp_path: Path) -> None:
    rows = tmp_path / "runs.jsonl"
    add(rows, run, "grpo", 0, tmp_path / "sft")
    kept = rows.read_bytes()
    (tmp_path / "sft/model.safetensors").write_bytes(b"other weights")
    with pytest.raises(ValueError, match="in a file of their own"):
        add(rows, run, "axpo", 0, tmp_path / "sft")
    assert rows.read_bytes() == kept
    assert add(tmp_path / "other.jsonl", run, "axpo", 0, tmp_path / "sft")
