"""Tavily's faults, from a real server: which are tried again, which count as paid, and how the call ends."""

import asyncio
import time
from typing import Any

import pytest

from tests.unit.tools.search.conftest import (
    RESULTS,
    Behaviour,
    FaultServer,
    after,
    answer,
    drip,
    drop,
    failed,
    found,
)
from verl_axpo.errors import InfraFailure
from verl_axpo.tools.search.hits import Hit
from verl_axpo.tools.search.quota import Quota
from verl_axpo.tools.search.service import Search
from verl_axpo.tools.search.tool import TavilySearch

HITS = [Hit(**result) for result in RESULTS]


def ask(config: dict[str, Any], query: str = "capital of Norway", **changes: Any) -> tuple[list[Hit] | str, int]:
    """(the hits or the infra failure's text, paid calls so far)."""
    search = Search(config | changes)
    assert search._engine is not None
    try:
        outcome: list[Hit] | str = asyncio.run(search.search(query, 5))
    except InfraFailure as failure:
        outcome = str(failure)
    return outcome, search._engine.quota.paid_calls()


def test_one_call_is_one_request_without_the_pages_that_leak(server: FaultServer, tavily: dict[str, Any]) -> None:
    assert ask(tavily) == (HITS, 1)
    assert server.asked == [
        {
            "path": "/search",
            "query": "capital of Norway",
            "max_results": 5,
            "search_depth": "basic",
            "exclude_domains": ["huggingface.co"],
        }
    ]
    assert server.headers[0]["Authorization"] == "Bearer tvly-test"


def test_domains_can_be_added_but_not_taken_away(server: FaultServer, tavily: dict[str, Any]) -> None:
    ask(tavily, exclude_domains=["arxiv.org"])
    assert server.asked[0]["exclude_domains"] == ["arxiv.org", "huggingface.co"]


@pytest.mark.parametrize(
    ("faults", "paid"),
    [
        ([failed(429)], 1),  # refused: not carried out, not paid
        ([failed(429, Retry_After="0")], 1),
        ([failed(500), failed(503)], 1),
        ([failed(408)], 1),
        ([answer(200, b'{"results": [')], 2),  # carried out, and broken on the way: paid
        ([answer(200, b"[]")], 2),
        ([answer(200, b'{"status": "fine"}')], 2),  # a proxy's; not "no results"
        ([found(None)], 2),
        ([found(["?"])], 2),
        ([drop], 2),
        ([after(4.0, found())], 2),  # the attempt's limit is 2 s
        ([drip], 2),
        ([failed(429), failed(502), drop, answer(200, b"")], 3),
    ],
    ids=[
        "429", "429 with Retry-After", "5xx", "408", "broken JSON", "no object", "foreign", "no results", "bad result",
        "dropped", "time-out", "drip", "all of them",
    ],
)  # fmt: skip
def test_what_may_pass_is_tried_again(
    faults: list[Behaviour], paid: int, server: FaultServer, tavily: dict[str, Any]
) -> None:
    server.plan = list(faults)
    assert ask(tavily, attempt_timeout_s=2.0, timeout_s=30.0) == (HITS, paid)
    assert len(server.asked) == len(faults) + 1


@pytest.mark.parametrize("status", [401, 403, 404, 432, 433])
def test_a_refusal_is_not_tried_again_and_not_paid(status: int, server: FaultServer, tavily: dict[str, Any]) -> None:
    server.plan = [failed(status)]
    outcome, paid = ask(tavily)
    assert isinstance(outcome, str)
    assert outcome.startswith("Tavily")
    assert (len(server.asked), paid) == (1, 0)


def test_a_query_that_the_service_does_not_take_is_told_to_the_policy(
    server: FaultServer, tavily: dict[str, Any]
) -> None:
    """Tavily's answer to a query of `site:` operators alone; the policy wrote it, and no service failed."""
    server.plan = [failed(400)]
    response, _, metrics = asyncio.run(TavilySearch(tavily).execute("id", {"query": "site:example.org"}))
    assert response.text.startswith("Error: the search does not take this query")
    assert metrics["ok"] is False
    assert (len(server.asked), Search(tavily)._engine.quota.paid_calls()) == (1, 0)  # type: ignore[union-attr]


def test_what_does_not_pass_ends_as_an_infra_failure(server: FaultServer, tavily: dict[str, Any]) -> None:
    server.plan = [failed(500)] * 9
    assert ask(tavily, attempts=3) == ("Tavily: status 500 (the last of 3 attempts)", 0)
    assert len(server.asked) == 3


def test_no_server_is_an_infra_failure_and_not_paid(server: FaultServer, tavily: dict[str, Any]) -> None:
    outcome, paid = ask(tavily, base_url="http://127.0.0.1:9", attempts=2)  # the discard port: nobody listens
    assert "no connection" in outcome
    assert (server.asked, paid) == ([], 0)


def test_a_huge_body_is_not_read(server: FaultServer, tavily: dict[str, Any]) -> None:
    page = {"url": "https://example.org", "content": "x" * 5 * 2**20}
    server.plan = [found([page])]
    assert ask(tavily) == ("Tavily: an answer of more than 4194304 bytes", 1)
    assert len(server.asked) == 1


def test_a_compressed_body_is_not_unpacked(server: FaultServer, tavily: dict[str, Any]) -> None:
    server.plan = [answer(200, b"\x1f\x8b\x08", Content_Encoding="gzip")]
    outcome, _ = ask(tavily)
    assert "a compressed answer" in outcome
    assert server.headers[0]["Accept-Encoding"] == "identity"


def test_the_whole_call_has_a_limit_too(server: FaultServer, tavily: dict[str, Any]) -> None:
    server.plan = [after(2.0, failed(500))] * 9
    started = time.monotonic()
    outcome, _ = ask(tavily, timeout_s=1.0, attempts=9)
    assert outcome == "search: no answer within 1 s"
    assert time.monotonic() - started < 10.0


def next_turn(quota: Quota) -> float:
    with quota._counters() as counters:
        return counters.get("next_turn", 0.0)


def test_retry_after_holds_back_every_call(server: FaultServer, tavily: dict[str, Any]) -> None:
    server.plan = [failed(429, Retry_After="2")]

    async def two() -> None:
        search = Search(tavily)
        assert search._engine is not None
        first = asyncio.create_task(search.search("one", 5))
        while next_turn(search._engine.quota) < time.time() + 0.5:  # until the first has its 429
            await asyncio.sleep(0.01)
        await asyncio.gather(first, search.search("two", 5))

    asyncio.run(two())
    assert [request["query"] for request in server.asked[:1]] == ["one"]
    assert all(moment - server.times[0] > 1.9 for moment in server.times[1:])
    assert len(server.times) == 3


async def test_a_cancelled_call_leaves_nothing_locked(server: FaultServer, tavily: dict[str, Any]) -> None:
    server.plan = [after(30.0, found())]
    search = Search(tavily | {"max_concurrency": 1})
    call = asyncio.create_task(search.search("capital of Norway", 5))
    while not server.asked:
        await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await search.search("capital of Norway", 5) == HITS


def test_missing_fields_of_a_result_are_empty(server: FaultServer, tavily: dict[str, Any]) -> None:
    server.plan = [found([{"url": "https://example.org", "title": None}])]
    outcome, _ = ask(tavily)
    assert outcome == [Hit(title="", url="https://example.org", content="", score=0.0)]


def test_the_key_is_neither_cached_nor_told(server: FaultServer, tavily: dict[str, Any], tmp_path: Any) -> None:
    server.plan = [failed(401)]
    outcome, _ = ask(tavily)
    ask(tavily)  # stores an answer
    assert "tvly-test" not in outcome
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"tvly-test" not in stored
    assert len(Search(tavily).cache) == 1
