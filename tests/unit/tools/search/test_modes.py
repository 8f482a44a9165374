"""live, record, replay: which queries go to Tavily, which are answered from disk, and the hash that a report has."""

import asyncio
import json
import pickle
from pathlib import Path
from typing import Any

import diskcache  # vLLM brings it; what older caches were
import pytest
import yaml

from tests.unit.tools.search.conftest import RESULTS, FaultServer, found
from verl_axpo.errors import InfraFailure
from verl_axpo.json_files import MAX_BYTES
from verl_axpo.tools.configs import settings_of
from verl_axpo.tools.search.cache import AnswerCache, content_hash, request_key
from verl_axpo.tools.search.hits import Hit
from verl_axpo.tools.search.service import ReplayMiss, Search

HITS = [Hit(**result) for result in RESULTS]


def ask(config: dict[str, Any], query: str = "capital of Norway", number: int = 5) -> list[Hit]:
    return asyncio.run(Search(config).search(query, number))


@pytest.mark.parametrize("mode", ["live", "record"])
def test_a_second_run_asks_nobody(mode: str, server: FaultServer, tavily: dict[str, Any]) -> None:
    assert [ask(tavily | {"mode": mode}) for _ in range(2)] == [HITS, HITS]
    assert len(server.asked) == 1


def test_every_part_of_the_request_counts(server: FaultServer, tavily: dict[str, Any]) -> None:
    ask(tavily)
    for changed in ({"search_depth": "advanced"}, {"exclude_domains": ["arxiv.org"]}):
        ask(tavily | changed)
    ask(tavily, number=6)
    ask(tavily, query="Capital of Norway")
    assert len(server.asked) == 5


def test_live_asks_again_after_a_while_and_record_does_not(server: FaultServer, tavily: dict[str, Any]) -> None:
    server.plan = [found(RESULTS[:1]), found(RESULTS[1:])]
    old = {"max_age_s": 1e-6}
    assert ask(tavily | old) == HITS[:1]
    assert ask(tavily | old | {"mode": "record"}) == HITS[:1]
    assert ask(tavily | old) == HITS[1:]
    assert ask(tavily | {"mode": "replay"}) == HITS[1:]


def test_a_replay_makes_no_call_and_needs_no_key(
    server: FaultServer, tavily: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(tavily | {"mode": "record"})
    monkeypatch.delenv("TAVILY_API_KEY")
    replay = tavily | {"mode": "replay"}
    assert ask(replay) == HITS
    with pytest.raises(InfraFailure, match=r"no recorded answer for 'capital of Sweden'"):
        ask(replay, "capital of Sweden")
    with pytest.raises(ReplayMiss, match="capital of Sweden"):
        ask(replay | {"on_miss": "error"}, "capital of Sweden")
    assert len(server.asked) == 1


def test_the_hash_is_of_the_answers_and_not_of_when_they_came(tmp_path: Path) -> None:
    def recorded(name: str, *answers: tuple[str, list[Hit]]) -> str:
        cache = AnswerCache(tmp_path / name)
        for query, hits in answers:
            cache.put(request_key({"query": query}), {"query": query}, hits)
        return content_hash(tmp_path / name)

    one = recorded("one", ("a", HITS), ("b", []))
    assert recorded("other order", ("b", []), ("a", HITS)) == one
    assert recorded("asked twice", ("a", []), ("b", []), ("a", HITS)) == one
    assert len({one, recorded("other answer", ("a", HITS[:1]), ("b", [])), recorded("fewer", ("a", HITS))}) == 3
    with pytest.raises(ValueError, match="holds no answers"):
        content_hash(tmp_path / "nothing")


def test_a_search_tells_the_hash_of_what_answers(tavily: dict[str, Any], tmp_path: Path) -> None:
    search = Search(tavily)
    asyncio.run(search.search("capital of Norway", 5))
    assert search.content_hash() == content_hash(tavily["cache_dir"])
    assert search.describe().startswith("Tavily, mode live, 1 answers cached in ")


def entry_of(config: dict[str, Any]) -> Path:
    """The file of the only answer in the cache."""
    (path,) = (Path(config["cache_dir"]) / "answers").rglob("*.json")
    return path


def test_a_broken_disk_is_an_infra_failure(tavily: dict[str, Any]) -> None:
    search = Search(tavily)
    for prefix in range(256):
        (Path(tavily["cache_dir"]) / "answers" / f"{prefix:02x}").write_text("a file where a folder has to be")
    with pytest.raises(InfraFailure, match="cannot be used"):
        asyncio.run(search.search("capital of Norway", 5))


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: None,
        lambda entry: [],
        lambda entry: entry["hits"],
        lambda entry: {**entry, "hits": "none"},
        lambda entry: {**entry, "hits": {}},
        lambda entry: {**entry, "hits": ["text"]},
        lambda entry: {**entry, "hits": [{"url": 1}]},
        lambda entry: {**entry, "hits": [{"url": "u", "title": {"a": 1}}]},
        lambda entry: {**entry, "hits": [{"url": "u", "content": ["x"]}]},
        lambda entry: {**entry, "hits": [{"url": "u", "score": 10**400}]},
        lambda entry: {**entry, "stored": "now"},
        lambda entry: {**entry, "request": {"query": "another"}},
        lambda entry: {**entry, "request": []},
        lambda entry: {"hits": entry["hits"]},
    ],
)
def test_an_entry_of_another_shape_or_request_is_a_miss(
    damage: Any, server: FaultServer, tavily: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    ask(tavily)
    path = entry_of(tavily)
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    nothing = AnswerCache(Path(tavily["cache_dir"])).content_hash()
    assert [ask(tavily), ask(tavily)] == [HITS, HITS]
    assert len(server.asked) == 2
    assert path.stem in caplog.text or damage({"hits": []}) is None
    assert content_hash(tavily["cache_dir"]) != nothing


@pytest.mark.parametrize("damage", [b"", b"{", b"\x80\x04N.", b"\xff\xfe", b"[" * 100_000, b" " * (MAX_BYTES + 1)])
def test_a_damaged_file_is_ignored_and_named(
    damage: bytes, server: FaultServer, tavily: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    ask(tavily)
    path = entry_of(tavily)
    ask(tavily, "another")
    path.write_bytes(damage)
    assert [ask(tavily), ask(tavily, "another")] == [HITS, HITS]
    assert len(server.asked) == 3
    assert str(path) in caplog.text


def test_nothing_in_a_cache_folder_is_unpickled(tavily: dict[str, Any], tmp_path: Path) -> None:
    """A folder from somebody else, with answers and counters forged so that the pickle module would run code."""
    ask(tavily)
    folder = Path(tavily["cache_dir"])
    for name in ("answers", "quota"):
        with diskcache.Cache(str(folder / name)) as forged:
            forged[entry_of(tavily).stem] = forged["next_turn"] = Trap(tmp_path / "sprung")
    entry_of(tavily).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    assert ask(tavily) == HITS
    assert not (tmp_path / "sprung").exists()


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_one_search_lives_through_several_event_loops(server: FaultServer, tavily: dict[str, Any]) -> None:
    search = Search(tavily | {"max_concurrency": 1})

    async def three(run: int) -> list[list[Hit]]:
        return await asyncio.gather(*(search.search(f"{run} {number}", 5) for number in range(3)))

    assert [asyncio.run(three(run)) for run in range(2)] == [[HITS] * 3] * 2


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, r"nothing to search with.*TAVILY_API_KEY.*documents.*mode: replay"),
        ({"engine": "tavily", "documents": "."}, "nothing to search with"),
        ({"documents": "/no/such/folder"}, "documents: got '/no/such/folder', expected a folder that exists"),
        ({"engine": "local"}, "documents: got None"),
        ({"mode": "replay"}, "holds no recorded answer"),
        ({"mode": "record", "documents": "."}, "mode: got 'record' with the local engine"),
        ({"mode": "relive"}, "mode: got 'relive': Input should be 'live', 'record' or 'replay'"),
        ({"on_miss": "ignore"}, "on_miss: got 'ignore'"),
        ({"engine": "bing"}, "engine: got 'bing': Input should be 'tavily' or 'local'"),
        ({"max_token": 9}, "unknown key 'max_token'.*'max_tokens'"),
        ({"max_tokens": 9}, "max_tokens: got 9: Input should be greater than or equal to 64"),
        ({"timeout_s": 0}, "timeout_s: got 0: Input should be greater than 0"),
        ({"exclude_domains": "arxiv.org"}, "exclude_domains: got 'arxiv.org': Input should be a valid list"),
    ],
)
def test_what_is_missing_or_wrong_is_reported_at_start(
    config: dict[str, Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TAVILY_API_KEY", raising=False)
    with pytest.raises(ValueError, match=told):
        Search({"cache_dir": str(tmp_path), **config})


def test_a_larger_budget_is_no_other_tool(tmp_path: Path) -> None:
    """An evaluation that ran out of paid calls goes on in the same folder."""
    settings = []
    for calls in (10, 1000):
        config = {"max_paid_calls": calls, "run": str(calls), "requests_per_minute": calls, "max_tokens": 256}
        tools = {"tools": [{"class_name": "TavilySearch", "config": config}]}
        (tmp_path / "tools.yaml").write_text(yaml.safe_dump(tools))
        settings.append(settings_of(tmp_path / "tools.yaml"))
    assert settings[0] == settings[1] == {"TavilySearch": {"max_tokens": 256}}


@pytest.mark.parametrize(
    "name", ["api_key", "apikey", "api_keys", "auth_tokens", "token_value", "base_url", "cache_dir"]
)
def test_nothing_secret_or_about_the_machine_is_a_setting(tmp_path: Path, name: str) -> None:
    config = {name: "x", "transport": "y", "report": "z"}
    (tmp_path / "tools.yaml").write_text(yaml.safe_dump({"tools": [{"class_name": "A", "config": config}]}))
    assert settings_of(tmp_path / "tools.yaml") == {"A": {"transport": "y", "report": "z"}}


@pytest.mark.parametrize("content", [b"tools: [", b"tools: \xff", b"tools: 1"])
def test_a_config_that_is_none_is_refused_by_its_path(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tools.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"tools\.yaml: "):
        settings_of(path)
