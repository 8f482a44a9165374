"""The overhead benchmark: the same number of tokens, the same shared prefixes, times by hand."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.eval_overhead import main, requests_of, run_seconds
from tests.unit.agent.scripted import MODEL, ScriptedServer
from tests.unit.eval.test_store import record, turn
from verl_axpo.eval.store import Store
from verl_axpo.trace.records import ToolCall

TURNS = (turn(prompt_tokens=10, completion_tokens=5), turn(prompt_tokens=18, completion_tokens=2))
CALL = ToolCall(name="zoom", arguments={}, ok=True, seconds=1.0)


def test_requests_have_the_lengths_and_share_the_prefixes_of_the_run() -> None:
    first, second = ([*requests_of(record("q", at, turns=TURNS))] for at in range(2))
    other = [*requests_of(record("r", 0, turns=TURNS))]
    assert [(len(request.prompt), request.tokens) for request in first] == [(10, 5), (18, 2)]
    assert first[1].prompt[:10] == first[0].prompt == second[0].prompt  # one question
    assert first[1].prompt[10:] != second[1].prompt[10:]  # two rollouts
    assert other[0].prompt != first[0].prompt


def test_tool_time_is_taken_off_as_its_share() -> None:
    # two rollouts side by side, 0-4 s and 2-10 s: 10 s of wall, 12 s of rollouts, 3 s of these in tools
    busy = turn(calls=(CALL, CALL, CALL))
    rollouts = [record("a", started=0.0, finished=4.0), record("b", turns=(busy,), started=2.0, finished=10.0)]
    assert run_seconds(rollouts) == (10.0, 7.5)


def test_it_prints_the_ratio(
    serve: Callable[..., ScriptedServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def write() -> None:
        with Store(tmp_path / "out") as store:
            for at in range(3):
                await store.add_rollout(record("q", at, turns=TURNS))

    asyncio.run(write())
    server = serve()
    main([str(tmp_path / "out"), "--base-url", server.url, "--model", MODEL, "--concurrency", "2"])
    text = capsys.readouterr().out
    assert "3 rollouts, 6 turns, 21 generated tokens" in text
    assert "evaluation 1.0 s, 1.0 s without tools" in text
    assert "ratio without tools" in text
    sent = server.requests()
    assert sorted((len(request["prompt"]), request["max_tokens"], request["min_tokens"]) for request in sent) == sorted(
        [(10, 5, 5), (18, 2, 2)] * 3
    )
    with pytest.raises(SystemExit, match="no rollouts there"):
        main([str(tmp_path / "empty"), "--model", MODEL])
