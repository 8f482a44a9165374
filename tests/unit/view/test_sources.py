"""What the page is told: the records of the trace or of the evaluation, read from the file at their place."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from tests.unit.eval import test_store
from tests.unit.eval.test_report import write
from verl_axpo.eval.store import Store
from verl_axpo.trace import ToolCall, read_step
from verl_axpo.trace.reader import records_path, summary_path
from verl_axpo.view import index as indexing
from verl_axpo.view.evaluation import EvaluationSource
from verl_axpo.view.index import rows, step_index
from verl_axpo.view.source import addresses, answer
from verl_axpo.view.training import TrainingSource, runs_of


def test_an_index_finds_each_row_where_it_lies(trace: Path) -> None:
    records, index = read_step(trace, 1).records, step_index(trace, 1)
    assert len(index.rows) == len(records) == 160
    for record in records[::20]:
        assert list(rows(trace, 1, index, record.uid, record.session)) == [record]
    group = [record for record in records if record.uid == records[0].uid]
    assert list(rows(trace, 1, index, records[0].uid)) == group


def test_an_index_is_kept_and_made_again_when_the_step_was_written_again(
    trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = trace / "view/step_000001.json"
    first = step_index(trace, 1)
    monkeypatch.setattr(indexing, "without_tokens", lambda line: pytest.fail("the step was read again"))
    assert step_index(trace, 1) == first
    monkeypatch.undo()
    path = records_path(trace, 1)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:80]))
    assert len(step_index(trace, 1).rows) == 80
    kept.write_bytes(b"damaged")
    assert len(step_index(trace, 1).rows) == 80


def test_a_trace_that_cannot_be_written_to_is_looked_at_all_the_same(trace: Path) -> None:
    (trace / "view").write_bytes(b"in the way")
    assert len(step_index(trace, 1).rows) == 160


def test_a_torn_line_is_skipped(trace: Path) -> None:
    path = records_path(trace, 1)
    path.write_bytes(path.read_bytes()[:-100])
    chapter = TrainingSource(trace).chapter("1")
    assert sum(len(row["rollouts"]) + len(row["continuations"]) for row in chapter["questions"]) == 159
    assert "the file is cut short" in chapter["defects"][0]


def test_a_step_that_is_being_written_has_no_defect_but_its_missing_summary(trace: Path) -> None:
    summary_path(trace, 2).unlink()
    path = records_path(trace, 2)
    path.write_bytes(path.read_bytes()[:-100])
    source = TrainingSource(trace)
    assert source.chapter("2")["defects"] == ["step 2 has no summary yet"]
    assert [chapter["complete"] for chapter in source.run()["chapters"]] == [True, False]


def test_a_question_is_the_traces_group(trace: Path) -> None:
    source, step = TrainingSource(trace), read_step(trace, 1)
    for question in step.questions():
        told = source.question("1", question.uid)
        assert [each["id"] for each in told["trajectories"]] == [str(record.session) for record in question.records]
        for each, record in zip(told["trajectories"], question.records, strict=True):
            assert (each["reward"], each["advantage"], each["selected"]) == (
                record.reward,
                record.advantage,
                record.selected,
            )
            assert sum(length for _, length in each["runs"]) == len(record.response_ids)
            assert "".join(part["text"] for part in each["parts"]) == record.text
            assert [*told["images"], *each["images"]] == list(record.images)


def test_runs_say_what_is_trained(trace: Path) -> None:
    for record in read_step(trace, 1).records:
        lengths = {kind: 0 for kind in ("trained", "masked", "tool")}
        for kind, length in runs_of(record):
            lengths[kind] += length
        assert lengths["trained"] == sum(record.response_mask)
        assert lengths["tool"] == sum(value is None for value in record.logprobs)


def test_list_and_tree_agree_on_what_is_right(trace: Path) -> None:
    """A reward below the threshold is wrong, also where it is above zero."""
    first, *rest = read_step(trace, 1).records
    changed = [replace(first, reward=0.3), *rest]
    records_path(trace, 1).write_bytes(b"".join(each.to_json() + b"\n" for each in changed))
    source = TrainingSource(trace)
    listed = next(row for row in source.chapter("1")["questions"] if row["uid"] == first.uid)["rollouts"][0]
    told = source.question("1", first.uid)["trajectories"][0]
    assert (listed[1], listed[4], told["correct"]) == (0.3, False, False)


def test_a_step_that_lacks_rows_says_so(trace: Path) -> None:
    path = records_path(trace, 1)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:100]))
    assert TrainingSource(trace).chapter("1")["defects"] == ["100 of 160 trajectories are there"]


def test_triggered_questions_are_those_with_candidates(trace: Path) -> None:
    summary = read_step(trace, 1).summary
    assert summary
    listed = {row["uid"]: row for row in TrainingSource(trace).chapter("1")["questions"]}
    assert {uid for uid, row in listed.items() if row["triggered"]} == {each.uid for each in summary.candidates}
    assert {uid for uid, row in listed.items() if row["resampled"]} == {each.uid for each in summary.selected}


def test_tokens_without_a_tokenizer_are_numbers(trace: Path) -> None:
    record = read_step(trace, 1).records[0]
    tokens = TrainingSource(trace).tokens("1", record.uid, str(record.session))
    assert (tokens["ids"], tokens["texts"]) == (list(record.response_ids), None)


def test_an_evaluation_tells_scores_and_reasons(evaluation: Path) -> None:
    source = EvaluationSource(evaluation)
    assert {chapter["key"]: chapter["metrics"]["questions"] for chapter in source.run()["chapters"]} == {
        "cold": 2,
        "warm": 2,
    }
    marks = {row["uid"]: [mark[1] for mark in row["rollouts"]] for row in source.chapter("warm")["questions"]}
    assert marks["red"] == [1.0, 0.0, None, 0.0]
    told = source.question("warm", "red")["trajectories"]
    assert [each["correct"] for each in told] == [True, False, None, False]
    assert told[0]["reason"].startswith("judge: ")
    with pytest.raises(ValueError, match="an evaluation keeps texts"):
        source.tokens("warm", "red", "0")


def test_what_is_asked_for_is_there(trace: Path) -> None:
    """A self-contained file holds every address that its page asks for."""
    for address in addresses(TrainingSource(trace), ["1"]):
        media, content = answer(TrainingSource(trace), address)
        assert content
        assert media in ("application/json", "image/png")
        if media == "application/json":
            orjson.loads(content)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("chapter/9", "there is no step 9"),
        ("chapter/..", "there is no step"),
        ("question/1/nobody", "step 1 has no question nobody"),
        ("tokens/1/nobody/0", "no trajectory 0"),
        ("image/step_000001.jsonl", "is no PNG"),
        ("image/..%2F..%2Fetc%2Fpasswd", "expected one inside"),
        ("secrets", "expected run, chapter/KEY"),
    ],
)
def test_anything_else_is_refused(trace: Path, address: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        answer(TrainingSource(trace), address)


def test_only_picture_files_are_served_as_pictures(trace: Path) -> None:
    (trace / "images/c.png").write_bytes(b"RIFF\x00\x00\x00\x00WAVEfmt ")
    (trace / "images/a.png").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")
    os.symlink("/etc/hostname", trace / "images/b.png")
    for name in ("a", "b", "c"):
        with pytest.raises(ValueError, match=r"is no PNG|leads out of"):
            answer(TrainingSource(trace), f"image/images/{name}.png")


def test_whatever_a_policy_wrote_can_be_shown(tmp_path: Path) -> None:
    folder = write(tmp_path, {})
    turns = (test_store.turn(text="half a pair: \udc00", calls=(ToolCall(name="z", arguments={"n": 2**70}, ok=True),)),)
    with Store(folder) as store:
        asyncio.run(store.add_rollout(test_store.record("red", benchmark="warm", turns=turns)))
    content = answer(EvaluationSource(folder), "question/warm/red")[1]
    assert b"\\udc00" in content
    assert str(2**70).encode() in content
