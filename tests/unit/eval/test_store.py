"""The folder of an evaluation: torn lines, damaged lines, replaced lines, what the policy may write."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from verl_axpo.core.types import Status
from verl_axpo.eval.store import Store
from verl_axpo.eval.types import RolloutRecord, Score, Turn, from_line, to_line
from verl_axpo.trace.records import ToolCall


def record(uid: str = "q", rollout: int = 0, **changes: Any) -> RolloutRecord:
    values: dict[str, Any] = {
        "benchmark": "b",
        "uid": uid,
        "rollout": rollout,
        "status": Status.OK,
        "answer": "x",
        "uses_tool": False,
        "response_tokens": 3,
        "turns": (),
        "started": 0.0,
        "finished": 1.0,
    }
    return RolloutRecord(**values | changes)


def turn(**changes: Any) -> Turn:
    values: dict[str, Any] = {
        "text": "t",
        "calls": (),
        "responses": (),
        "unanswered": 0,
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "finish_reason": "stop",
        "seconds": 0.5,
    }
    return Turn(**values | changes)


def add(folder: Path, *records: RolloutRecord) -> None:
    async def write() -> None:
        with Store(folder) as store:
            await asyncio.gather(*(store.add_rollout(record) for record in records))

    asyncio.run(write())


def test_what_is_added_is_read_back_in_order(tmp_path: Path) -> None:
    call = ToolCall(name="zoom", arguments={"x": 1}, ok=False, error="no")
    first = record("a", turns=(turn(calls=(call,)),))
    add(tmp_path, first, record("b"))
    store = Store(tmp_path).load()
    assert list(store.rollouts()) == [first, record("b")]
    assert list(store.rollouts(lambda key: key[1] == "b")) == [record("b")]


def test_many_at_once_each_have_their_own_line(tmp_path: Path) -> None:
    add(tmp_path, *(record(str(at), answer="y" * at) for at in range(200)))
    found = list(Store(tmp_path).load().rollouts())
    assert {rollout.uid: len(str(rollout.answer)) for rollout in found} == {str(at): at for at in range(200)}


def test_a_later_line_replaces_an_earlier_one(tmp_path: Path) -> None:
    add(tmp_path, record(status=Status.INFRA_FAILURE, error="gone"))
    add(tmp_path, record())
    store = Store(tmp_path).load()
    assert store.statuses == {("b", "q", 0): Status.OK}
    assert list(store.rollouts()) == [record()]


@pytest.mark.parametrize("tail", [b'{"benchmark": "b", "ui', b"x" * 200_000, b"{"])
def test_a_torn_last_line_is_cut_by_a_writer_and_overlooked_by_a_reader(tmp_path: Path, tail: bytes) -> None:
    add(tmp_path, record("a"))
    path = tmp_path / "rollouts.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    assert list(Store(tmp_path).load().statuses) == [("b", "a", 0)]
    add(tmp_path, record("b"))
    assert path.read_bytes().startswith(whole)
    assert list(Store(tmp_path).load().statuses) == [("b", "a", 0), ("b", "b", 0)]


def test_a_file_that_is_one_torn_line_becomes_empty(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    path.write_bytes(b"{")
    with Store(tmp_path):
        assert path.read_bytes() == b""
    assert not (tmp_path / "scores.jsonl").exists()


POISON: list[tuple[bytes, bytes]] = [
    (b'"uid":"a"', b'"vid":"a"'),
    (b'"rollout":0', b'"rollout":"zero"'),
    (b'"status":"ok"', b'"status":"fine"'),
    (b'"turns":[]', b'"turns":5'),
    (b'"response_tokens":3', b'"response_tokens":null'),
    (b'"answer":"x"', b'"answer":["x"]'),
    (b'{"benchmark"', b'{"benchmark": {"benchmark"'),
]


@pytest.mark.parametrize(("old", "new"), POISON)
def test_a_damaged_line_in_the_middle_is_named_and_skipped(tmp_path: Path, old: bytes, new: bytes) -> None:
    add(tmp_path, record("a"), record("b"))
    path = tmp_path / "rollouts.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(old, new, 1))
    assert path.read_bytes() != whole
    store = Store(tmp_path).load()
    assert list(store.rollouts()) == [record("b")]
    (told,) = store.damaged
    assert told.startswith("rollouts.jsonl line 1 is damaged and left out: ")
    add(tmp_path, record("a"))  # it is sampled again
    assert sorted(key[1] for key in Store(tmp_path).load().statuses) == ["a", "b"]


@pytest.mark.parametrize("score", [b"null", b"{}", b'{"correct":"maybe","by":"rule","reason":"x","values":{}}'])
def test_a_damaged_verdict_is_skipped(tmp_path: Path, score: bytes) -> None:
    line = b'{"benchmark":"b","uid":"q","rollout":0,"score":%b,"judge":false}\n' % score
    (tmp_path / "scores.jsonl").write_bytes(line)
    store = Store(tmp_path).load()
    assert store.scores == {}
    assert len(store.damaged) == 1


@pytest.mark.parametrize("arguments", [{"n": 2**80}, {"s": "\ud800"}, {"deep": [[[1]]]}, "raw {oops"])
def test_whatever_the_policy_wrote_can_be_kept(arguments: Any) -> None:
    odd = record(answer="\ud83d", turns=(turn(calls=(ToolCall(name="\udc00", arguments=arguments, ok=False),)),))
    assert b"\n" not in to_line(odd)
    assert from_line(RolloutRecord, to_line(odd)) == odd


def test_no_sign_that_a_policy_writes_ends_a_line(tmp_path: Path) -> None:
    some = [record(str(at), answer=f"a{sign}b") for at, sign in enumerate("\u2028\u2029\x85\x0b\x0c\x1c\r")]
    add(tmp_path, *some)
    assert list(Store(tmp_path).load().rollouts()) == some


def test_the_last_verdict_counts(tmp_path: Path) -> None:
    async def judge_twice() -> None:
        with Store(tmp_path) as store:
            await store.add_score(("b", "q", 0), Score(correct=None, by="nobody", reason="asleep"))
            await store.add_score(("b", "q", 0), Score(correct=True, by="judge", reason="same", values={"f1": 1.0}))

    asyncio.run(judge_twice())
    assert Store(tmp_path).load().scores["b", "q", 0] == Score(
        correct=True, by="judge", reason="same", values={"f1": 1.0}
    )
