"""The report: every number by hand from rollouts written here, the files, and the page in a real browser."""

import asyncio
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.unit.eval import colours
from tests.unit.eval.test_store import record, turn
from verl_axpo.core.types import Status
from verl_axpo.eval.manifest import open_manifest
from verl_axpo.eval.registry import about
from verl_axpo.eval.store import Store
from verl_axpo.eval.types import Response, Score
from verl_axpo.image_store import store_image
from verl_axpo.report import build as files
from verl_axpo.report.compare import compare
from verl_axpo.report.evaluation import breakdown, build_report, notes, paper_table, summary
from verl_axpo.report.results import Evaluation, load_evaluation
from verl_axpo.trace.records import ToolCall

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)

# outcome of each rollout: c correct, w wrong, u unscored, f failed; a capital letter: with a tool call
OUTCOMES = {
    ("warm", "red"): "CwfW",
    ("warm", "pink"): "wwww",
    ("cold", "green"): "ccCu",
    ("cold", "blue"): "ffff",
}
ZOOM = ToolCall(name="image_zoom_in", arguments={"bbox_2d": [0, 0, 9, 9]}, ok=True, seconds=0.5)
BAD = ToolCall(name="", arguments={"raw": "{oops"}, ok=False, seconds=0.0, error="not valid JSON")
HOSTILE = "<think>\n</script><script>document.title='owned'</script>\n</think>\n\n<answer>\\boxed{a|b}</answer>"


def write(folder: Path, outcomes: dict[tuple[str, str], str], **settings: Any) -> Path:
    """An evaluation as a run leaves it: 2 questions in each of 2 benchmarks, 4 rollouts each."""
    questions = {
        name: [colours.question(name, colour) for benchmark, colour in OUTCOMES if benchmark == name]
        for name in ("warm", "cold")
    }
    values = {"model": "m", "rollouts": 4, "sampling": {"temperature": 0.7}} | settings
    open_manifest(folder, values, questions, about(colours, list(questions)))
    with Store(folder) as store:
        for name, some in questions.items():
            store.add_questions(name, some)
        picture = store_image(folder, colours.Image.new("RGB", (32, 32), "yellow"))
        for (benchmark, uid), marks in outcomes.items():
            for at, mark in enumerate(marks):
                asyncio.run(add(store, benchmark, uid, at, mark, picture))
    return folder


async def add(store: Store, benchmark: str, uid: str, at: int, mark: str, picture: str) -> None:
    calls = (ZOOM, BAD) if mark.isupper() else ()
    responses = tuple(Response(text="seen", images=(picture,) if call.ok else ()) for call in calls)
    one = record(
        uid,
        at,
        benchmark=benchmark,
        status=Status.INFRA_FAILURE if mark == "f" else Status.OK,
        answer=None if mark == "f" else "a|b",
        uses_tool=mark.isupper(),
        response_tokens=100 + at,
        turns=() if mark == "f" else (turn(text=HOSTILE, calls=calls, responses=responses),),
        error="server gone" if mark == "f" else None,
    )
    await store.add_rollout(one)
    if mark != "f":
        correct = {"c": True, "w": False, "u": None}[mark.lower()]
        by = "nobody" if correct is None else "judge" if mark == "C" else "rule"
        score = Score(correct=correct, by=by, reason=f"verdict {mark}", values={"f1": 0.5})
        await store.add_score(one.key, score)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("evaluation"), OUTCOMES)


@pytest.fixture(scope="module")
def evaluation(folder: Path) -> Evaluation:
    return load_evaluation(folder)


def test_failed_rollouts_count_nowhere_and_unscored_ones_both_ways(evaluation: Evaluation) -> None:
    cold, warm = evaluation.results  # cold has place 0
    # red: 1 of 3 usable, one fewer than Pass@4 takes; pink: 0 of 4
    assert warm.per_question("pass_1").tolist() == [1 / 3, 0.0]
    np.testing.assert_array_equal(warm.per_question("pass_k"), [math.nan, 0.0])
    # Pass@2 of red: 2 of the 3 pairs hold the right one
    assert warm.per_question("pass_k", k=2).tolist() == [pytest.approx(2 / 3), 0.0]
    # red used a tool in 2 of the 3 that did not fail
    assert warm.per_question("tool_use").tolist() == [2 / 3, 0.0]
    # green: 3 right of 4, or 4 of 4; blue says nothing at all
    np.testing.assert_array_equal(cold.per_question("pass_1"), [0.75, math.nan])
    np.testing.assert_array_equal(cold.per_question("pass_1", generous=True), [1.0, math.nan])
    np.testing.assert_array_equal(cold.per_question("pass_k"), [1.0, math.nan])
    np.testing.assert_array_equal(cold.per_question("tool_use"), [0.25, math.nan])
    assert (warm.incomplete(), cold.incomplete()) == (1, 1)
    with pytest.raises(ValueError, match="choose from"):
        warm.per_question("pass_9")


def test_the_papers_table_with_averages_of_benchmarks(evaluation: Evaluation) -> None:
    assert list(evaluation.columns()) == ["cold", "warm", "average of 2"]  # groups of one need no average
    numbers = summary(evaluation)
    assert numbers["pass_1"]["warm"].value == pytest.approx(1 / 6)
    average = {measure: some["average of 2"] for measure, some in numbers.items()}
    assert average["pass_1"].value == pytest.approx((3 / 4 + 1 / 6) / 2)
    assert average["pass_1"].at_most == pytest.approx((1 + 1 / 6) / 2)
    assert average["pass_k"].value == pytest.approx((1 + 0) / 2)  # green and pink
    assert average["tool_use"].value == pytest.approx((1 / 4 + 1 / 3) / 2)
    table = paper_table(evaluation, numbers).lines()
    assert table[0] == ["%", "Cold", "Warm", "average of 2"]
    assert table[1] == ["Pass@1", "75.0 to 100.0 [75.0, 100.0]", "16.7 [0.0, 33.3]", table[1][3]]
    assert table[1][3].startswith("45.8 to 58.3 [")
    assert [row[0] for row in table[2:]] == ["Pass@4", "tool use"]


def test_the_papers_numbers_are_shown_only_when_asked_and_named(evaluation: Evaluation) -> None:
    numbers = summary(evaluation)
    assert "paper" not in str(paper_table(evaluation, numbers).lines())
    rows = {row[0]: row[1:] for row in paper_table(evaluation, numbers, with_paper=True).lines()}
    assert rows["Pass@1, paper's SFT+AXPO (8B)"] == ["", "12.3", ""]
    assert rows["Pass@4, paper's SFT+AXPO (8B)"] == ["", "45.6", ""]
    assert rows["tool use, paper's SFT+AXPO (8B)"] == ["", "78.9", ""]


def test_two_benchmarks_of_the_same_title_are_two_columns(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    for entries in manifest["benchmarks"].values():
        entries["column"] = "Colours"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    built = build_report(copy)
    assert list(built.table.rows[0])[1:3] == ["Colours (cold)", "Colours (warm)"]
    counts = {name: part["statuses"] for name, part in built.report.data["benchmarks"].items()}
    assert counts["cold"] != counts["warm"]


def test_groups_of_several_benchmarks_have_an_average(evaluation: Evaluation) -> None:
    cold, warm = evaluation.results
    third = replace(warm, name="hot", column="Hot")
    names = replace(evaluation, results=(cold, warm, third)).columns()
    assert list(names) == ["cold", "warm", "hot", "near average of 2", "average of 3"]
    assert names["near average of 2"] == [warm, third]


def test_what_the_numbers_are_computed_from(evaluation: Evaluation) -> None:
    cold, warm = (breakdown(result) for result in evaluation.results)
    assert warm["statuses"] == {"ok": 7, "truncated": 0, "infra_failure": 1}
    assert warm["scored_by"] == {"rule": 6, "judge": 1, "nobody": 0}
    assert cold["scored_by"] == {"rule": 2, "judge": 1, "nobody": 1}
    assert warm["outcome"] == {
        "tool": {"correct": 1, "wrong": 1, "unscored": 0},
        "no_tool": {"correct": 0, "wrong": 5, "unscored": 0},
    }
    # two rollouts with a tool, each with one good zoom and one call that nobody could read
    assert warm["tools"] == {
        "undecodable": {"calls": 2, "errors": 2, "rollouts": 2, "seconds": 0.0},
        "image_zoom_in": {"calls": 2, "errors": 0, "rollouts": 2, "seconds": 0.5},
    }
    # red 100, 101, 103 (the failed one left out) and pink 100 to 103
    assert warm["response_tokens"]["mean"] == pytest.approx((100 + 101 + 103 + 100 + 101 + 102 + 103) / 7)
    assert warm["response_tokens"]["max"] == 103
    assert warm["turns"] == {1: 7}
    assert warm["values"] == {"f1": 0.5}
    assert warm["token_exact"] == {"exact": 0, "differs": 0, "unknown": 7}
    assert cold["incomplete_questions"] == 1


def test_notes_say_what_is_missing(evaluation: Evaluation, tmp_path: Path) -> None:
    failed, unscored, incomplete = notes(evaluation)
    assert failed.startswith("5 of 16 rollouts failed")
    assert unscored.startswith("1 of 16 rollouts could not be scored")
    assert incomplete == "2 of 4 questions have fewer than 4 usable rollouts; Pass@4 leaves them out."
    started = write(tmp_path, {("warm", "red"): "cc"})
    assert notes(load_evaluation(started)) == [
        "14 of 16 rollouts are still to be sampled.",
        "4 of 4 questions have fewer than 4 usable rollouts; Pass@4 leaves them out.",
        "Cold has no usable rollout: it is in no average.",
    ]


def test_a_comparison_pairs_questions(evaluation: Evaluation, tmp_path: Path) -> None:
    # B: red 2 of 4 (A 1 of 3), pink 4 of 4 (A 0 of 4); blue is in neither, green is the same
    better = OUTCOMES | {("warm", "red"): "ccww", ("warm", "pink"): "cccc"}
    other = load_evaluation(write(tmp_path / "b", better, sampling={"temperature": 1.0}))
    found = compare(evaluation, other)
    warm = found.differences["pass_1"]["warm"]
    assert warm.delta.value == pytest.approx((1 / 6 + 1) / 2)
    assert warm.questions == 2
    # of 4 signings of (1/6, 1) only all plus and all minus are as extreme
    assert warm.p_value == pytest.approx(1 / 2, abs=0.02)
    average = found.differences["pass_1"]["average of 2"]
    # green is 3 or 4 of 4 on either side: -1/4 to 1/4
    assert average.delta.value == pytest.approx((-1 / 4 + 7 / 12) / 2)
    assert average.delta.at_most == pytest.approx((1 / 4 + 7 / 12) / 2)
    assert average.questions == 3
    assert found.settings == ("sampling.temperature: there 0.7, this run 1.0",)
    rows = {(row[0], row[1]): row[2:] for row in found.table.lines()}
    assert rows["Warm", "Pass@1"][:2] == ["16.7", "75.0"]
    assert rows["Warm", "Pass@1"][2].startswith("+58.3 [+16.7, +100.0]")
    ends = "75.0 to 100.0"
    assert rows["Cold", "Pass@1"] == [ends, ends, "-25.0 to +25.0 [-25.0, +25.0]", "1", "1", "2"]
    path = files.write(found.report(), tmp_path / "compared", "compare")
    assert "| Warm | Pass@1 | 16.7 | 75.0 | +58.3 [+16.7, +100.0] |" in path.read_text()
    assert "sampling.temperature" in path.read_text()
    saved = json.loads(path.with_suffix(".json").read_text())
    assert saved["differences"]["pass_1"]["warm"]["delta"]["value"] == pytest.approx(7 / 12)


def test_runs_without_a_common_benchmark_or_with_other_questions_are_refused(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    cold, warm = evaluation.results
    with pytest.raises(ValueError, match="expected a benchmark in common"):
        compare(replace(evaluation, results=(cold,)), replace(evaluation, results=(warm,)))
    changed = {name: {**values, "file": "x"} for name, values in evaluation.manifest.benchmarks.items()}
    other = replace(evaluation, manifest=replace(evaluation.manifest, benchmarks=changed))
    with pytest.raises(ValueError, match="has other questions"):
        compare(evaluation, other)


@pytest.fixture(scope="module")
def report(folder: Path) -> Path:
    return build_report(folder, title="Colours", with_paper=True).path


def test_a_report_writes_page_tables_and_plots(report: Path) -> None:
    text, html = report.read_text(), report.with_suffix(".html").read_text()
    assert "| Pass@1 | 75.0 to 100.0 [75.0, 100.0] | 16.7 [0.0, 33.3] |" in text
    assert "not measured here" in text
    assert "5 of 16 rollouts failed" in text
    plots = re.findall(r"\(report/plots/(\w+)\.svg\)", text)
    assert plots == ["accuracy", "tool_use", "lengths"]
    for name in plots:
        assert b"<svg" in (report.parent / "report/plots" / f"{name}.svg").read_bytes()
    assert html.count("data:image/svg+xml;base64,") == len(plots)
    saved = json.loads(report.with_suffix(".json").read_text())
    assert saved["measures"]["pass_1"]["warm"]["value"] == pytest.approx(1 / 6)
    assert saved["bootstrap"] == {"unit": "question", "draws": 10_000, "level": 0.95, "seed": 0}
    assert not re.search(r'(src|href)="(?!data:|#)', html)  # self-contained
    assert "owned" not in html  # no text of the policy is in it


def test_every_table_is_there_as_csv_and_json(report: Path) -> None:
    folder = report.parent / "report/tables"
    names = ["conventions", "lengths", "measures", "outcomes", "settings", "statuses", "tools"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.{kind}" for name in names
                                                                    for kind in ("csv", "json"))  # fmt: skip
    saved = json.loads(report.with_suffix(".json").read_text())["tables"]
    for name in names:
        assert json.loads((folder / f"{name}.json").read_text()) == saved[name]
    measures = pd.read_csv(folder / "measures.csv").set_index("%")
    assert measures.loc["Pass@1", "Warm.value"] == pytest.approx(1 / 6)  # every digit
    assert measures.loc["Pass@1", "Cold.at_most"] == 1.0
    assert measures.loc["Pass@1", "Warm.high"] == pytest.approx(1 / 3)
    tools = pd.read_csv(folder / "tools.csv")
    assert tools[["benchmark", "tool", "calls"]].to_numpy().tolist()[-2] == ["Warm", "image_zoom_in", 2]


def test_a_report_takes_the_files_of_the_one_before_away_and_nothing_else(tmp_path: Path) -> None:
    folder = write(tmp_path, {("warm", "red"): "cc"})
    build_report(folder)
    kept = folder / "report/tables/notes.txt"
    kept.write_text("mine")
    (folder / "report/tables/older.csv").write_text("of other benchmarks")
    asyncio.run(_another(folder))
    assert [path for path in (folder / "report").rglob("*") if path.is_file()] == [kept]


async def _another(folder: Path) -> None:
    with Store(folder) as store:
        await store.add_rollout(record("pink", 0, benchmark="warm"))
