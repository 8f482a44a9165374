"""The report: numbers by hand, and a comparison of two arms with two seeds drawn and written from their files."""

import io
import json
import math
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from verl_axpo.core.config import AxpoConfig
from verl_axpo.report.curves import correlations, curve, smoothed
from verl_axpo.report.heldout import HeldOut, evaluation_from_dump, read_heldout, write_heldout
from verl_axpo.report.runs import Run, load_run, load_runs, write_run_info
from verl_axpo.report.stats import Outcome
from verl_axpo.report.table import Table
from verl_axpo.report.traced import read_trace
from verl_axpo.report.training import (
    build_report,
    ends,
    heldout_table,
    paired_heldout,
    runs_table,
    sources_table,
    tools_table,
    training_table,
)
from verl_axpo.trace import TraceWriter, store_image


def evaluation(*rewards: tuple[float, ...], rollouts: int = 4) -> HeldOut:
    """The first of each question's rollouts uses a tool."""
    groups = [[Outcome(reward >= 1, at == 0) for at, reward in enumerate(group)] for group in rewards]
    return HeldOut(questions={str(at): group for at, group in enumerate(groups)}, rollouts=rollouts)


def write_run(folder: Path, arm: str, seed: int, *, steps: int, make_step: Callable[..., Any] | None) -> Path:
    """A run whose tool-use rate at step s is (s + seed) / 100; its trace has three steps, if any."""
    write_run_info(folder, arm, seed)
    lines = [
        {
            "step": step,
            "data": {"axpo/tool_use_rate": (step + seed) / 100, "critic/score/mean": step / 200, "name": "x"},
        }
        for step in range(1, steps + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_heldout(folder, "before", evaluation((0, 0, 0, 0), (1, 0, 0, 0)))
    write_heldout(folder, "after", evaluation((1, 1, 0, 0), (1, 0, 0, seed - 1)))
    if make_step:
        config = AxpoConfig(num_continuations=2)
        image = store_image(folder / "trace", Image.new("RGB", (8, 8), "red"))
        with TraceWriter(folder / "trace") as writer:
            for step in (1, 2, 3):
                writer.write_step(*make_step(step, config, image))
    return folder


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory, step_maker: Callable[..., Any]) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    arms = (("grpo", None), ("axpo", step_maker))
    return [
        write_run(folder / arm / f"seed_{seed}", arm, seed, steps=10, make_step=maker)
        for arm, maker in arms
        for seed in (1, 2)
    ]


def test_held_out_rates_by_hand() -> None:
    one = evaluation((1, 1, 0, 0), (0, 0, 0, 0), (0, 1, 1, 1))
    measured = {measure: one.estimate(measure).value for measure in ("pass_1", "pass_k", "tool_use")}
    assert measured == {"pass_1": pytest.approx((0.5 + 0 + 0.75) / 3), "pass_k": pytest.approx(2 / 3), "tool_use": 0.25}
    # the first rollout of each question uses the tool: right, wrong, wrong; of the others, the second question's fail
    assert one.all_wrong(uses_tool=True) == pytest.approx(2 / 3)
    assert one.all_wrong(uses_tool=False) == pytest.approx(1 / 3)


def test_infra_failures_stand_outside_the_evaluation(tmp_path: Path) -> None:
    rows = [("a_0_0", 1.0, 0.0), ("a_1_0", 0.0, 1.0), ("b_0_0", 0.0, 0.0)]
    lines = [{"uid": uid, "acc": acc, "uses_tool": 0.0, "infra_failure": failed} for uid, acc, failed in rows]
    (tmp_path / "0.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    one = evaluation_from_dump(tmp_path / "0.jsonl")
    assert (one.estimate("pass_1").value, one.infra_failures, len(one.questions)) == (0.5, 1, 2)


def test_held_out_stages_are_written_one_by_one(tmp_path: Path) -> None:
    before, after = evaluation((0, 0, 0, 1)), evaluation((1, 1, 1, 1))
    write_heldout(tmp_path, "before", before)
    write_heldout(tmp_path, "after", after)
    stages = read_heldout(tmp_path)
    assert {stage: held.estimate("pass_1").value for stage, held in stages.items()} == {"before": 0.25, "after": 1.0}
    (tmp_path / "heldout.json").write_text('{"after": {"questions": [{"uid": "a"}]}}')
    with pytest.raises(ValueError, match="no held-out evaluation"):
        read_heldout(tmp_path)


def test_lists_of_different_lengths_are_refused(tmp_path: Path) -> None:
    question = {"uid": "a", "rewards": [1.0], "uses_tool": []}
    (tmp_path / "heldout.json").write_text(json.dumps({"after": {"questions": [question]}}))
    with pytest.raises(ValueError, match="no held-out evaluation"):
        read_heldout(tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("axpo_seed3", ("axpo", 3)),
        ("axpo-2b-s11", ("axpo-2b", 11)),
        ("arm/seed_4", ("arm", 4)),
        ("plain", ("plain", None)),
    ],
)
def test_arm_and_seed_from_the_folders_name(tmp_path: Path, name: str, expected: tuple[str, int | None]) -> None:
    folder = tmp_path / name
    write_heldout(folder, "before", evaluation((0, 0, 0, 0)))
    run = load_run(folder)
    assert (run.arm, run.seed) == expected


def test_metrics_are_merged_from_logs_and_trace(tmp_path: Path, step_maker: Callable[..., Any]) -> None:
    run = write_run(tmp_path / "run", "axpo", 1, steps=2, make_step=step_maker)
    newer = run / "metrics.1.jsonl"
    newer.write_text('{"step": 2, "data": {"axpo/tool_use_rate": 0.5}}\n{"step": 3, "da')
    os.utime(run / "metrics.jsonl", ns=(0, 0))
    metrics = load_run(run).metrics
    assert list(metrics) == [1, 2, 3]
    assert metrics[1]["axpo/tool_use_rate"] == 0.02
    assert metrics[2]["axpo/tool_use_rate"] == 0.5  # the newer file's
    assert metrics[3]["critic/rewards/mean"] == 0.3  # only the trace has step 3
    assert "name" not in metrics[1]


def run_with(seed: int, values: dict[int, float]) -> Run:
    metrics = {step: {"m": value} for step, value in values.items()}
    return Run(path=Path("nowhere"), arm="axpo", seed=seed, metrics=metrics, heldout={})


def test_a_curve_is_mean_lowest_and_highest_of_the_seeds() -> None:
    line = curve([run_with(1, {1: 0.0, 3: 0.2}), run_with(2, {1: 1.0, 3: 0.6})], "m")
    assert line is not None
    assert line.index.tolist() == [1, 3]
    assert line["mean"].tolist() == [0.5, pytest.approx(0.4)]
    assert (line["low"].tolist(), line["high"].tolist()) == ([0.0, 0.2], [1.0, 0.6])
    assert curve([run_with(1, {1: 0.0})], "other") is None
    assert curve([run_with(1, {1: 0.0}), run_with(2, {2: 0.0})], "m") is None  # no step in common


def test_a_curve_does_not_jump_where_a_seed_ends_or_has_no_value() -> None:
    """Seeds at 0.2 and 0.8, neither of which ever changes."""
    low, high = {step: 0.2 for step in range(1, 31)}, {step: 0.8 for step in range(1, 101) if step % 10}
    line = curve([run_with(1, low), run_with(2, high), run_with(3, {})], "m")
    assert line is not None
    assert set(line["mean"].round(9)) == {0.5}
    assert (line.index[-1], line.attrs["seeds"], line.attrs["ends_early"]) == (29, 2, True)
    one = curve([run_with(2, high)], "m")
    assert one is not None
    assert (one.index[-1], one.attrs["ends_early"]) == (99, False)


def test_long_curves_are_smoothed_and_short_ones_are_not() -> None:
    short = {step: float(step % 2) for step in range(39)}
    assert smoothed(short).to_dict() == short
    long = smoothed({step: float(step) for step in range(40)})  # windows of 3
    assert (long[0], long[1], long[39]) == (0.5, 1.0, 38.5)


def test_ends_are_means_of_the_first_and_last_fifth() -> None:
    run = run_with(1, {step: float(step) for step in range(1, 11)})
    assert ends(run, "m") == (1.5, 9.5)
    assert ends(replace(run, metrics={0: {"val": 1.0}, 1: {"m": 0.25}, 2: {"m": 0.75}}), "m") == (0.25, 0.75)
    assert ends(run, "other") is None


def cloud(confidence: list[float], entropy: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"confidence": confidence, "entropy": entropy})


def test_correlations_by_hand() -> None:
    # x - mean = -1, 0, 1; y - mean = -2, 1, 1: 3 / sqrt(2 * 6)
    assert correlations(cloud([-1.0, -2, -3], [0.0, 3, 3]))[0] == pytest.approx(3 / math.sqrt(12))
    # -confidence rises as entropy does, not linearly: ranks agree fully
    pearson, spearman = correlations(cloud([0.9, 0.5, 0.4], [0.1, 0.2, 9.0]))
    assert spearman == pytest.approx(1.0)
    assert pearson < 0.9
    # ties share the mean rank: entropy ranks 0.5, 0.5, 2 against 0, 1, 2 -> 1.5 / sqrt(2 * 1.5)
    assert correlations(cloud([0.9, 0.5, 0.4], [0.1, 0.1, 9.0]))[1] == pytest.approx(1.5 / math.sqrt(3))
    assert math.isnan(correlations(cloud([1.0, 1], [0.0, 3]))[0])


def test_tables_say_what_the_files_say(comparison: list[Path]) -> None:
    runs = [load_run(folder) for folder in comparison]
    heldout = heldout_table(runs).lines()
    # seed 1: (2/4 + 1/4) / 2 = 37.5 %; seed 2: (2/4 + 2/4) / 2 = 50 %
    assert heldout[2] == [
        "grpo",
        "after",
        "43.8 [37.5, 50.0]",
        "100.0 [100.0, 100.0]",
        "25.0 [25.0, 25.0]",
        "2 x 4",
        "2",
    ]
    assert heldout[1][2] == "12.5 [12.5, 12.5]"
    # tool use of ten steps: seed 1 (1.5 + 1) -> (9.5 + 1) percent, seed 2 one more: means 3 -> 11
    training = {row[0]: row[1:] for row in training_table(runs).lines()}
    assert training["tool-use rate"][:2] == ["0.03", "0.11"]
    assert training_table(runs, ["last"]).lines()[1][:2] == ["tool-use rate", "0.11"]
    table = runs_table(runs, {run.path: read_trace(run.trace_dir) for run in runs if run.trace_dir}).lines()
    assert table[1] == ["grpo, seed 1", "10", "0", "no trace", "no trace"]
    assert table[3][0] == "axpo, seed 1"
    assert re.fullmatch(r"\d+ of \d+", table[3][3])
    assert table[3][4].startswith("no differences in ")


def test_the_whole_report(comparison: list[Path], tmp_path: Path) -> None:
    path = build_report(comparison, tmp_path, "A comparison")
    text, html = path.read_text(), (tmp_path / "report.html").read_text()
    plots = {path.name for path in (tmp_path / "report/plots").iterdir()}
    assert plots == {
        *("tool_use_rate.svg", "all_wrong.svg", "restore_rate.svg", "reward.svg", "pass_at.svg"),
        *("confidence_entropy.svg", "example.png"),
    }
    for name in plots:
        assert f"(report/plots/{name})" in text
    assert Image.open(tmp_path / "report/plots/example.png").size[0] >= 8
    assert "Pearson" in text
    assert "## One restored subgroup" in text
    assert "| continuation 2 | image_zoom_in(bbox_2d=[0, 0, 9, 9]) |" in text
    assert html.count('src="data:image/') == len(plots)
    assert not re.search(r'(src|href)="(?!data:|#)', html)  # self-contained


def test_a_run_with_a_held_out_file_alone_makes_a_report(tmp_path: Path) -> None:
    write_heldout(tmp_path, "before", evaluation((0, 0, 0, 1)))
    text = build_report([tmp_path], tmp_path).read_text()
    assert "| before | 25.0 | 100.0 | 25.0 | 1 x 4 | 1 |" in text
    assert "## Curves" not in text


def test_what_the_policy_writes_cannot_break_a_table() -> None:
    assert Table(name="t", rows=[{"a": "x|y\nz", "b": "`q`"}]).markdown().splitlines()[2] == r"| x\|y z | 'q' |"


def test_an_empty_folder_is_refused_with_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one folder per run"):
        load_run(tmp_path)


def test_a_run_is_taken_apart_by_source_and_by_tool() -> None:
    def of(seed: int, reward: float) -> Run:
        metrics = {
            0: {"val-core/tiny/a/acc/mean@4": 0.25, "val-core/tiny/b/acc/mean@4": 0.5},
            1: {"axpo/tool/python/calls": 3.0, "axpo/tool/python/errors": 1.0, "axpo/tool/python/seconds": 0.1},
            2: {
                "axpo/tool/python/calls": 1.0,
                "axpo/tool/python/infra_failures": 1.0,
                "axpo/tool/python/seconds": 0.5,
                "val-core/tiny/a/acc/mean@4": reward,
                "val-aux/tiny/a/reward/mean@4": reward - 0.1,
                "val-core/tiny/a/uses_tool/mean@4": 0.75,
                "val-core/tiny/a/uses_tool/mean@3": 1.0,  # of a question that lost a rollout
                "val-core/tiny/b/acc/mean@4": 1.0,
            },
        }
        return Run(path=Path(f"axpo_seed{seed}"), arm="axpo", seed=seed, metrics=metrics, heldout={})

    runs = [of(0, 0.5), of(1, 0.75)]
    assert sources_table(runs).lines()[1:] == [
        ["axpo", "tiny/a", "25.0", "62.5", "-", "75.0", "2"],
        ["axpo", "tiny/b", "50.0", "100.0", "-", "-", "2"],
    ]
    # 8 calls: 2 of them errors, 2 failures; (3 * 0.1 + 1 * 0.5) / 4 = 0.2 s
    assert tools_table(runs).lines()[1:] == [["axpo", "python", "8", "25.0", "2", "0.2"]]
    assert sources_table([]).rows == tools_table([]).rows == []


def test_the_training_table_is_there_below_ten_steps_when_validation_ran_at_step_0() -> None:
    metrics = {0: {"val-core/a/acc/mean@4": 0.5}} | {step: {"critic/score/mean": step / 10} for step in range(1, 6)}
    run = Run(path=Path("axpo"), arm="axpo", seed=None, metrics=metrics, heldout={})
    assert training_table([run]).lines() == [["", "axpo: first fifth", "axpo: last fifth"], ["reward", "0.1", "0.5"]]


def test_a_run_that_is_given_twice_is_no_second_seed(comparison: list[Path], tmp_path: Path) -> None:
    again = comparison[0].parent / "." / comparison[0].name
    (tmp_path / "link").symlink_to(comparison[0])
    for other in (again, tmp_path / "link"):
        with pytest.raises(ValueError, match="is there 2 times; give each run once"):
            load_runs([comparison[0], comparison[1], other])
    shutil.copytree(comparison[0], tmp_path / "copy")
    text = build_report([comparison[0], tmp_path / "copy"], tmp_path / "out").read_text()
    assert "grpo, seed 1 is there 2 times: every folder counts as a seed." in text


def held_out(arm: str, seed: int, before: HeldOut | None, after: HeldOut | None) -> Run:
    stages = {stage: held for stage, held in (("before", before), ("after", after)) if held is not None}
    return Run(path=Path(f"{arm}{seed}"), arm=arm, seed=seed, metrics={}, heldout=stages)  # type: ignore[arg-type]


def test_two_trainings_are_paired_by_question() -> None:
    """GRPO: 1/4 and 2/4 after; AXPO: 3/4 and 2/4 in one seed, 4/4 and 2/4 in the other: +5/8 and 0."""
    start = evaluation((0, 0, 0, 0), (1, 0, 0, 0))
    grpo = held_out("grpo", 0, start, evaluation((1, 0, 0, 0), (1, 1, 0, 0)))
    axpo = [
        held_out("axpo", seed, start, evaluation(first, (1, 1, 0, 0)))
        for seed, first in enumerate(((1, 1, 1, 0), (1, 1, 1, 1)))
    ]
    table, unpaired = paired_heldout([grpo, *axpo])
    assert unpaired == []
    rows = {(row[""], row["measure"]): row for row in table.rows}
    assert [name for name, measure in rows if measure == "Pass@4"] == [
        "grpo: before → after",
        "axpo: before → after",
        "after: grpo → axpo",
    ]
    row = rows["after: grpo → axpo", "Pass@1"]
    assert [side.value for side in (row["A %"], row["B %"])] == [3 / 8, pytest.approx((7 / 8 + 2 / 4) / 2)]
    delta = row["B - A, points"]
    assert (delta.value, delta.low, delta.high) == (pytest.approx(5 / 16), 0.0, pytest.approx(5 / 8))
    assert str(delta) == "+31.2 [+0.0, +62.5]"
    assert row["p"] == 1.0  # of 4 signings of (5/8, 0) all are as extreme
    assert (row["questions"], row["asked"]) == (2, 2)


def test_of_one_rollout_per_question_pass_at_k_is_not_told_again() -> None:
    before, after = evaluation((0,), (1,), rollouts=1), evaluation((1,), (1,), rollouts=1)
    table, _ = paired_heldout([held_out("grpo", 0, before, after)])
    assert [row["measure"] for row in table.rows] == ["Pass@1", "tool use"]


def test_trainings_on_other_questions_are_paired_where_they_agree_and_said_to_be_unpaired_where_not() -> None:
    here, there = evaluation((1, 0, 0, 0), (1, 1, 0, 0)), evaluation((1, 1, 0, 0))
    table, unpaired = paired_heldout([held_out("grpo", 0, None, here), held_out("axpo", 0, None, there)])
    assert unpaired == []
    assert [(row["questions"], row["asked"]) for row in table.rows] == [(1, 1)] * 3
    other = HeldOut(questions={"x": there.questions["0"]}, rollouts=4)
    table, unpaired = paired_heldout([held_out("grpo", 0, None, here), held_out("axpo", 0, None, other)])
    assert table.rows == []
    assert unpaired == [
        "after: grpo → axpo: no paired difference, for no held-out question has the same uid in every run."
    ]


def test_every_table_of_a_training_is_there_as_csv_and_json(comparison: list[Path], tmp_path: Path) -> None:
    path = build_report(comparison, tmp_path)
    saved = json.loads(path.with_suffix(".json").read_text())["tables"]
    names = ["runs", "heldout", "heldout_runs", "heldout_paired", "agent_tools", "training", "standing", "example"]
    assert list(saved) == names
    for name in names:
        assert json.loads((tmp_path / f"report/tables/{name}.json").read_text()) == saved[name]
        assert len(pd.read_csv(tmp_path / f"report/tables/{name}.csv")) == len(saved[name])
    held = pd.read_csv(tmp_path / "report/tables/heldout.csv").set_index(["arm", "held-out"])
    assert held.loc[("grpo", "after"), "Pass@1 %.value"] == pytest.approx(0.4375)
    assert held.loc[("grpo", "after"), "Pass@1 %.high"] == 0.5


@pytest.mark.parametrize(("width", "on_its_side"), [(200, False), (60, True)])
def test_a_wide_table_lies_on_its_side_in_a_narrow_terminal(width: int, on_its_side: bool) -> None:
    """Nothing is cut: `eval report` has a column per benchmark."""
    benchmarks = ["MathVision", "DynaMath", "Math-VR", "V*", "VisualProbe", "HR-Bench 4K"]
    rows = [{"": measure, **dict.fromkeys(benchmarks, "55.3 [50.1, 60.2]")} for measure in ("Pass@1 %", "Pass@4 %")]
    console = Console(width=width, file=io.StringIO())
    console.print(Table(name="measures", rows=rows))
    text = console.file.getvalue()
    assert text.count("55.3 [50.1, 60.2]") == len(benchmarks) * len(rows)
    assert "…" not in text
    assert (len(text.splitlines()) > len(benchmarks)) == on_its_side
