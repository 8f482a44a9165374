"""Several processes at once: one cache, one rate, one limit of paid calls, one index."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import Timeout

from tests.unit.tools.search.conftest import FaultServer, after, found
from verl_axpo.errors import InfraFailure
from verl_axpo.tools.search.cache import AnswerCache, request_key
from verl_axpo.tools.search.quota import PaidCallsSpent, Quota

WORKER = Path(__file__).with_name("worker.py")


def start(job: str, *arguments: Any) -> subprocess.Popen[str]:
    command = [sys.executable, str(WORKER), job, json.dumps(arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def at_once(job: str, *arguments: list[Any]) -> list[Any]:
    """One process for each list of arguments, all at the same time; their results in order."""
    processes = [start(job, *words) for words in arguments]
    return [json.loads(process.communicate(timeout=120)[0]) for process in processes]


def test_each_question_is_asked_once_whoever_asks_it(server: FaultServer, tavily: dict[str, Any]) -> None:
    queries = [f"question {number}" for number in range(8)]
    server.plan = [after(0.3, found())] * 8  # long enough that all processes want the same answer
    assert at_once("ask", *[[tavily, queries]] * 3) == [["Oslo"] * 8] * 3
    assert sorted(request["query"] for request in server.asked) == queries  # not 24


def test_the_budget_is_one_for_all(server: FaultServer, tavily: dict[str, Any]) -> None:
    # 3 processes want 8 answers each, all different: 24, of which 10 are paid for
    config = tavily | {"max_paid_calls": 10}
    outcomes = at_once("ask", *([config, eight(process)] for process in "abc"))
    assert sum(outcome.count("Oslo") for outcome in outcomes) == 10
    assert sum(outcome.count("spent") for outcome in outcomes) == 14
    assert len(server.asked) == 10


def eight(process: str) -> list[str]:
    return [f"{process}{number}" for number in range(8)]


def test_the_rate_is_one_for_all(server: FaultServer, tavily: dict[str, Any]) -> None:
    # 24 calls at 600 a minute: 0.1 s from each to the next, whichever process makes it
    config = tavily | {"requests_per_minute": 600.0}
    assert at_once("ask", *([config, eight(process)] for process in "abc")) == [["Oslo"] * 8] * 3
    assert len(server.times) == 24
    # 2.3 s but for the jitter of arrivals on a busy machine; a rate of each process's own would take 7 * 0.1 s
    assert max(server.times) - min(server.times) > 1.5


def test_the_index_is_built_once(tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    lines = [f'{{"text": "fact {number} is known", "url": "u{number}"}}' for number in range(2000)]
    (documents / "facts.jsonl").write_text("\n".join(lines))
    outcomes = at_once("build", *[[str(documents), str(tmp_path / "index")]] * 3)
    assert outcomes == [outcomes[0]] * 3
    assert outcomes[0][1] == "u1999"
    assert sorted(path.suffix for path in (tmp_path / "index").iterdir()) == [".lock", ".sqlite3"]


async def test_a_killed_process_holds_nobody_up(tmp_path: Path) -> None:
    key = request_key({"query": "x"})
    cache = AnswerCache(tmp_path)
    with start("hold", str(tmp_path), key) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        with pytest.raises(Timeout):
            await cache.lock(key).acquire(timeout=0)
        process.kill()
    async with cache.lock(key) as lock:
        assert lock.is_locked


def test_a_clock_set_back_stops_nobody(tmp_path: Path) -> None:
    quota = Quota(tmp_path, run="r", max_paid_calls=1, calls_per_minute=60, max_wait_s=5)
    with quota._counters() as counters:
        counters["next_turn"] = time.time() + 3600
    assert quota.wait_for_turn() == 0.0
    assert 0.9 < quota.wait_for_turn() <= 1.0


def test_a_queue_longer_than_a_call_may_take_refuses(tmp_path: Path) -> None:
    quota = Quota(tmp_path, run="r", max_paid_calls=1, calls_per_minute=60, max_wait_s=1.5)
    assert [round(quota.wait_for_turn()) for _ in range(2)] == [0, 1]
    with pytest.raises(InfraFailure, match="raise requests_per_minute"):
        quota.wait_for_turn()  # 2 s away


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"paid/r": "many"}', '{"paid/r": NaN}', '{"paid/r": -1}', "[" * 100_000, "\x80"]
)
def test_damaged_counters_are_never_taken_for_zero(tmp_path: Path, damage: str) -> None:
    quota = Quota(tmp_path, run="r", max_paid_calls=1, calls_per_minute=60, max_wait_s=5)
    quota.spend()
    (tmp_path / "counters.json").write_text(damage)
    for use in (quota.spend, quota.refund, quota.wait_for_turn, quota.paid_calls):
        with pytest.raises(InfraFailure, match=r"counters.json is damaged.*delete it"):
            use()


def test_a_refused_call_changes_no_counter(tmp_path: Path) -> None:
    quota = Quota(tmp_path, run="r", max_paid_calls=1, calls_per_minute=60, max_wait_s=5)
    quota.spend()
    with pytest.raises(PaidCallsSpent):
        quota.spend()
    assert quota.paid_calls() == 1
