"""Held-out numbers from verl's dumps: which answers count, and files that a kill or a policy has damaged."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from verl_axpo.report.heldout import evaluation_from_dump, read_heldout, write_heldout
from verl_axpo.report.runs import TRAINED, finish, load_run, merge_metrics
from verl_axpo.report.stats import in_percent, pass_at
from verl_axpo.report.traced import example_section, read_trace
from verl_axpo.report.training import heldout_runs_table, heldout_table


def line(uid: str, session: int = 0, **values: Any) -> dict[str, Any]:
    plain = {"uid": f"{uid}_{session}_0", "score": 0.0, "acc": 0.0, "uses_tool": 0.0, "infra_failure": 0.0}
    return {**plain, "output": "x", **values}


def dump(path: Path, *lines: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return path


@pytest.mark.parametrize(("right", "wrong"), [(0.9, -0.1), (1.2, 0.2), (1.0, 0.0)])
def test_what_a_tool_call_earns_or_costs_changes_no_rate(tmp_path: Path, right: float, wrong: float) -> None:
    path = dump(
        tmp_path / "0.jsonl",
        *(line("a", at, acc=1.0, score=right, uses_tool=1.0) for at in range(2)),
        *(line("b", at, acc=0.0, score=wrong, uses_tool=1.0) for at in range(2)),
    )
    one = evaluation_from_dump(path)
    assert [one.estimate(measure).value for measure in ("pass_1", "pass_k")] == [0.5, 0.5]
    assert one.all_wrong(uses_tool=True) == 0.5


def test_a_reward_function_without_acc_is_told_so(tmp_path: Path) -> None:
    path = dump(tmp_path / "0.jsonl", {name: value for name, value in line("a").items() if name != "acc"})
    with pytest.raises(ValueError, match=r"0\.jsonl line 1: .*expected \['acc'\].*returns `acc` next to `score`"):
        evaluation_from_dump(path)


@pytest.mark.parametrize("text", ["one\u2028two", "\u2029", "\x85", "a\x0b\x0c\x1c\x1d\x1eb"])
def test_no_sign_that_a_policy_writes_ends_a_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "heldout").mkdir()
    for step in (0, 1):
        dump(tmp_path / f"heldout/{step}.jsonl", line("a", acc=1.0, output=text, input=text))
    (tmp_path / "metrics_1.jsonl").write_text(
        json.dumps({"step": 1, "data": {"m": 1.0, "t": text}}, ensure_ascii=False)
    )
    finish(tmp_path, "axpo", 0, 1)
    assert {stage: held.estimate("pass_1").value for stage, held in read_heldout(tmp_path).items()} == {
        "before": 1.0,
        "after": 1.0,
    }
    assert load_run(tmp_path).metrics[1]["m"] == 1.0


def test_a_torn_or_damaged_line_of_the_log_is_skipped(tmp_path: Path) -> None:
    good = json.dumps({"step": 1, "data": {"m": 1.0}})
    lines = [good, "{", "[]", '{"step": 2}', '{"step": "x", "data": {}}', '{"step": 3, "data": 5}', "", good[:10]]
    (tmp_path / "metrics_1.jsonl").write_text("\n".join(lines))
    assert merge_metrics(tmp_path) == 1
    assert load_run(tmp_path).metrics == {1: {"m": 1.0}}


def test_a_step_done_again_has_no_number_of_the_first_time(tmp_path: Path) -> None:
    first = [(5, {"m": 1.0}), (6, {"m": 1.0, "axpo/restore_rate": 0.5})]
    again = [(6, {"m": 2.0})]
    for start, lines in enumerate((first, again)):
        lines = [{"step": step, "data": {TRAINED: step, **values}} for step, values in lines]
        validated = {"step": 5, "data": {"val": 0.1 * start}}  # by the second start, before it trains
        path = tmp_path / f"metrics_{start}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in [*([validated] * start), *lines]))
        os.utime(path, (start, start))
    expected = {5: {TRAINED: 5, "m": 1.0, "val": 0.1}, 6: {TRAINED: 6, "m": 2.0}}
    assert load_run(tmp_path).metrics == expected
    merge_metrics(tmp_path)
    assert load_run(tmp_path).metrics == expected


def test_a_torn_dump_is_named(tmp_path: Path) -> None:
    path = dump(tmp_path / "0.jsonl", line("a"), line("b"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"0\.jsonl line 2: ends in the middle.*; validate again"):
        evaluation_from_dump(path)
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(ValueError, match=r"0\.jsonl line 2: .*; validate again, or delete the file"):
        evaluation_from_dump(path)


def test_answers_without_a_verdict_widen_the_held_out_numbers(tmp_path: Path) -> None:
    """A judge that fails gives no `acc`; a tool that fails does, and is no answer of the policy."""
    path = dump(
        tmp_path / "0.jsonl",
        *(line("a", at, acc=acc) for at, acc in enumerate((1.0, 0.0))),
        *(line("b", at, acc=acc, infra_failure=float(acc is None)) for at, acc in enumerate((None, 0.0))),
        line("c", 0, acc=1.0, infra_failure=1.0),
        line("c", 1, acc=0.0),
    )
    one = evaluation_from_dump(path)
    assert (one.undecided, one.infra_failures, one.incomplete()) == (1, 1, 1)
    # a 1 of 2, b 0 or 1 of 2, c 0 of 1, which is too few for Pass@2
    first, several = one.estimate("pass_1"), one.estimate("pass_k")
    assert (first.value, first.at_most) == (pytest.approx(1 / 6), pytest.approx(2 / 6))
    assert (several.value, several.at_most) == (0.5, 1.0)
    run = tmp_path / "axpo_seed1"
    write_heldout(run, "before", one)
    assert read_heldout(run)["before"].undecided == 1
    (_, row) = heldout_table([load_run(run)]).lines()
    assert row[2:4] == ["16.7 to 33.3", "50.0 to 100.0"]
    (_, row) = heldout_runs_table([load_run(run)]).lines()
    assert row[-3:] == ["1", "1", "1"]


def test_pass_at_k_by_hand() -> None:
    assert [pass_at(1, 4, right) for right in range(5)] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert [pass_at(4, 4, right) for right in (0, 1, 4)] == [0.0, 1.0, 1.0]
    # of the 6 pairs out of 4 rollouts 3 hold the one that is right
    assert pass_at(2, 4, 1) == 0.5
    assert pass_at(4, 8, 2) == 1 - 15 / 70
    assert [in_percent(pass_at(4, usable, 1), 0.0) for usable in (1, 3)] == ["-", "-"]


def test_no_picture_of_a_trace_from_elsewhere_leaves_its_folder(tmp_path: Path, step_maker: Any) -> None:
    from dataclasses import replace

    from verl_axpo.core.config import AxpoConfig
    from verl_axpo.trace import TraceWriter, store_image

    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8), "red").save(secret)
    for at, path in enumerate(("../../secret.png", str(secret), None)):
        trace = tmp_path / str(at) / "trace"
        image = store_image(trace, Image.new("RGB", (8, 8), "blue")) if path is None else path
        records, summary = step_maker(1, AxpoConfig(num_continuations=2), image)
        with TraceWriter(trace) as writer:
            writer.write_step([replace(record, images=(image,)) for record in records], summary)
        assert bool(example_section(read_trace(trace)).figures) == (path is None)


def test_a_question_has_the_same_uid_in_every_training(tmp_path: Path) -> None:
    """verl draws a uid anew in each validation; questions that nothing tells apart keep verl's uids."""

    def uids(*lines: dict[str, Any]) -> list[str]:
        return list(evaluation_from_dump(dump(tmp_path / "0.jsonl", *lines)).uids)

    for key in ("question", "input"):
        first = uids(
            line("f1", **{key: "0"}, gts="A"), line("f2", **{key: "1"}, gts="B"), line("f2", 1, gts="B", **{key: "1"})
        )
        again = uids(line("g1", **{key: "0"}, gts="A"), line("g2", **{key: "1"}, gts="C"))
        assert (len(first), len(set(first) & {"f1", "f2"})) == (2, 0)
        assert (again[0] == first[0], again[1] == first[1]) == (True, False)  # another answer is another question
        shared = uids(line("a", **{key: "0"}), line("b", **{key: "0"}), line("c", **{key: "1"}))
        assert (shared[:2], shared[2] == "c") == (["a", "b"], False)
    assert uids(line("a"), line("a", 1), line("b", question="0"))[0] == "a"
