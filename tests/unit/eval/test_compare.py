"""Comparisons and averages: the same k and questions on both sides, and each number says what it leaves out."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.unit.eval.test_report import OUTCOMES, write
from verl_axpo.eval import scorers
from verl_axpo.eval.benchmarks import get, names
from verl_axpo.eval.cli import app
from verl_axpo.report import build as files
from verl_axpo.report.compare import Comparison, compare
from verl_axpo.report.evaluation import build_report, paper_table, summary
from verl_axpo.report.results import Evaluation, Result, load_evaluation

EVERY = [("warm", "red"), ("warm", "pink"), ("cold", "green"), ("cold", "blue")]


def pair(folder: Path, first: str, second: str) -> Comparison:
    """Two evaluations in which every question has these outcomes."""
    sides = [
        load_evaluation(write(folder / name, dict.fromkeys(EVERY, marks), rollouts=len(marks)))
        for name, marks in (("a", first), ("b", second))
    ]
    return compare(*sides)


def rows(comparison: Comparison) -> dict[tuple[str, str], list[str]]:
    return {(row[0], row[1]): row[2:] for row in comparison.table.lines()[1:]}


def test_runs_of_another_k_are_compared_at_the_smaller_one(tmp_path: Path) -> None:
    """The same policy, right once in four tries: with eight tries two are right, and Pass@4 is 1 - C(6,4)/C(8,4)."""
    found = pair(tmp_path, "cwww", "ccwwwwww")
    table = rows(found)
    words = ("Pass@1", "Pass@4", "tool use")
    assert set(table) == {(name, word) for name in ("Cold", "Warm", "average of 2") for word in words}
    assert table["Warm", "Pass@1"][:3] == ["25.0", "25.0", "+0.0 [+0.0, +0.0]"]
    assert table["Warm", "Pass@4"][:2] == ["100.0", f"{100 * (1 - 15 / 70):.1f}"]
    assert any("Pass@4" in line and "4 rollouts" in line and "8" in line for line in found.left_out)


def test_questions_with_fewer_usable_tries_on_either_side_have_no_pass_at_k(tmp_path: Path) -> None:
    """Half of B's rollouts are infra failures: that says nothing about B."""
    found = pair(tmp_path, "cwww", "cwff")
    table = rows(found)
    assert table["Warm", "Pass@1"][:3] == ["25.0", "50.0", "+25.0 [+25.0, +25.0]"]
    assert table["Warm", "Pass@4"] == ["-", "-", "-", "-", "0", "2"]
    assert "Warm: of B's 8 rollouts 4 failed or are not sampled" in found.left_out
    told = "Warm: Pass@4 leaves out 2 of 2 questions: fewer than 4 of their rollouts are usable in A or B"
    assert told in found.left_out


def test_what_was_left_out_is_printed_and_written(tmp_path: Path) -> None:
    for name, marks in (("a", "cwww"), ("b", "cwff")):
        write(tmp_path / name, dict.fromkeys(EVERY, marks))
    line = ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, line, catch_exceptions=False, env={"COLUMNS": "300"})
    saved = json.loads((tmp_path / "out/compare.json").read_text())
    text = (tmp_path / "out/compare.md").read_text()
    assert len(saved["left_out"]) >= 4
    for told in saved["left_out"]:
        assert told in text
        assert told in done.output


def test_a_benchmark_of_one_side_alone_is_named(tmp_path: Path) -> None:
    found = pair(tmp_path, "cwww", "cwww")
    only = Evaluation(folder=found.after.folder, manifest=found.after.manifest, results=found.after.results[1:])
    told = compare(found.before, only).left_out
    assert "Cold is in A alone" in told
    assert {row[0] for row in compare(found.before, only).table.lines()[1:]} == {"Warm"}


def test_a_difference_that_unscored_answers_could_turn_has_p_one(tmp_path: Path) -> None:
    """B's judge failed where no rule said right. What is left of B is all right; B may be better or worse than A."""
    found = pair(tmp_path, "cccw", "ccuu")
    warm = found.differences["pass_1"]["warm"]
    # A 75.0; B 50.0 to 100.0
    assert (warm.delta.value, warm.delta.at_most, warm.p_value) == (-0.25, 0.25, 1.0)
    assert warm.delta.low <= -0.25
    assert warm.delta.high >= 0.25
    assert rows(found)["Warm", "Pass@1"][:3] == ["75.0", "50.0 to 100.0", "-25.0 to +25.0 [-25.0, +25.0]"]
    assert (
        "Warm: 4 answers of B have no verdict: they count as wrong at one end and as right at the other"
        in found.left_out
    )


def test_a_difference_that_unscored_answers_cannot_turn_keeps_its_p(tmp_path: Path) -> None:
    warm = pair(tmp_path, "wwww", "cccu").differences["pass_1"]["warm"]
    assert (warm.delta.value, warm.delta.at_most) == (0.75, 1.0)
    assert warm.p_value < 0.6  # two questions, both better: 1/2


def test_an_average_leaves_no_benchmark_out_without_saying_so(tmp_path: Path) -> None:
    """Nothing of `cold` was usable: there is no average of two, and the report says which benchmark has no number."""
    folder = write(tmp_path, OUTCOMES | {("cold", "green"): "ffff"})
    evaluation = load_evaluation(folder)
    table = paper_table(evaluation, summary(evaluation)).lines()
    assert table[0] == ["%", "Cold", "Warm"]
    assert table[1][1] == "-"
    assert any("Cold has no usable rollout: it is in no average" in note for note in build_report(folder).notes)


def paper_result(name: str, **changes: object) -> Result:
    described = get(name)
    values = {"name": name, "column": described.column, "group": described.group, "questions": {"q": []}, "rollouts": 1}
    return Result(**values | {"rows": (), "judged": 0, "paper": {}} | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("missing", [0, 1, 4])
def test_an_average_over_fewer_than_the_papers_nine_says_so_in_its_name(tmp_path: Path, missing: int) -> None:
    evaluation = load_evaluation(write(tmp_path, {("warm", "red"): "cccc"}))
    (usable,) = (result.rows for result in evaluation.results if result.name == "warm")
    some = [paper_result(name, rows=usable, questions={"red": []}, rollouts=4) for name in names()[missing:]]
    found = list(Evaluation(folder=tmp_path, manifest=evaluation.manifest, results=tuple(some)).columns())
    groups = [name for name in found if "average" in name]
    if missing == 0:
        assert groups == ["math average", "perception average", "search average", "average"]
    elif missing == 1:  # without MathVision
        assert groups == ["math average of 2 of 3", "perception average", "search average", "average of 8 of 9"]
    else:  # and without DynaMath, Math-VR and V*
        assert groups == ["perception average of 3 of 4", "search average", "average of 5 of 9"]


def test_runs_scored_by_other_rules_are_not_compared(tmp_path: Path) -> None:
    older, newer = (write(tmp_path / name, dict.fromkeys(EVERY, "cwww")) for name in ("a", "b"))
    lines = (older / "scores.jsonl").read_text()
    assert f"scorers {scorers.VERSION}" in lines
    (older / "scores.jsonl").write_text(lines.replace(f"scorers {scorers.VERSION}", "scorers 0"))
    with pytest.raises(ValueError, match=r"scorers 0.*verl-axpo eval run"):
        compare(load_evaluation(older), load_evaluation(newer))


def test_the_files_say_the_k(tmp_path: Path) -> None:
    path = files.write(pair(tmp_path, "cwww", "ccwwwwww").report(), tmp_path / "out", "compare")
    assert json.loads(path.with_suffix(".json").read_text())["k"] == 4
    assert "| Warm | Pass@4 |" in path.read_text()


def test_commands_print_json(tmp_path: Path) -> None:
    for name, marks in (("a", "cwww"), ("b", "ccww")):
        write(tmp_path / name, dict.fromkeys(EVERY, marks))
    done = CliRunner().invoke(app, ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"])
    row = next(row for row in json.loads(done.output)["tables"]["differences"] if row["measure"] == "Pass@1")
    assert (row["A %"]["value"], row["B - A, points"]["value"], row["questions"]) == (0.25, 0.25, 2)
    assert not (tmp_path / "compare.json").exists()
    done = CliRunner().invoke(app, ["report", str(tmp_path / "a"), "--json"])
    assert json.loads(done.output) == json.loads((tmp_path / "a/report.json").read_text())
