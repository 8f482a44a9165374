"""`tavily-search` as verl calls it, and without verl."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from verl.tools.tool_registry import load_all_tools

from tests.unit.tools.search.conftest import FaultServer, failed
from verl_axpo.errors import InfraFailure
from verl_axpo.integration.trajectory_tool import TrajectoryTool
from verl_axpo.tools.paper_tools import TAVILY_SEARCH
from verl_axpo.tools.search.tool import TavilySearch

LONG = "a b " * 101  # 403 characters without the last space


@pytest.fixture
def local(tmp_path: Path) -> dict[str, Any]:
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "oslo.txt").write_text("Oslo\n\nOslo is the capital of Norway.")
    return {"type": "native", "documents": str(documents), "cache_dir": str(tmp_path / "cache")}


def call(config: dict[str, Any], parameters: Any) -> tuple[str, dict[str, Any]]:
    response, reward, metrics = asyncio.run(TavilySearch(config).execute("id", parameters))
    assert reward == 0.0
    return response.text or "", metrics


def test_a_good_call_returns_passages_with_sources(local: dict[str, Any]) -> None:
    text, metrics = call(local, {"query": "capital of Norway"})
    assert text == "[1] Oslo\noslo.txt\nOslo\n\nOslo is the capital of Norway."
    assert metrics == {"ok": True, "error": None}


def test_five_results_unless_asked_otherwise(server: FaultServer, tavily: dict[str, Any]) -> None:
    call(tavily, {"query": "x"})
    call(tavily, {"query": "x", "max_results": 20})
    assert [request["max_results"] for request in server.asked] == [5, 20]


def test_white_space_and_control_characters_make_no_other_query(server: FaultServer, tavily: dict[str, Any]) -> None:
    for query in ("capital of Norway", "  capital\n of\x00Norway\t", "capital of Norway\ud800"):
        call(tavily, {"query": query})
    assert [request["query"] for request in server.asked] == ["capital of Norway"]


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({}, "query is missing, got the arguments []; write {\"query\": \"a few words\"}."),
        ({"q": "x"}, "query is missing, got the arguments ['q']"),
        ({"query": None}, "query must be a string, got None."),
        ({"query": ["x"]}, "query must be a string, got ['x']."),
        ({"query": ""}, "query must contain a word, got ''"),
        ({"query": " ?!\n"}, "query must contain a word"),
        ({"query": LONG}, "query has 403 characters, at most 400 are allowed; keep the key words."),
        ({"query": "x", "max_results": 0}, "max_results must be a whole number from 1 to 20, got 0."),
        ({"query": "x", "max_results": 21}, "from 1 to 20, got 21."),
        ({"query": "x", "max_results": "5"}, "from 1 to 20, got '5'."),
        ({"query": "x", "max_results": 2.0}, "from 1 to 20, got 2.0."),
        ({"query": "x", "max_results": True}, "from 1 to 20, got True."),
        ({"query": "x", "max_results": None}, "from 1 to 20, got None."),
        ({"query": "x", "max_results": 10**5000}, "from 1 to 20, got a huge int."),
        ({"query": ["<|image_pad|>"]}, "got ['< |image_pad|>']."),
        (["x"], "arguments must be a JSON object, got list."),
        (None, "arguments must be a JSON object, got NoneType."),
    ],
)  # fmt: skip
def test_a_bad_call_is_answered_with_what_to_write(local: dict[str, Any], parameters: Any, told: str) -> None:
    text, metrics = call(local, parameters)
    assert text.startswith("Error: ")
    assert told in text
    assert metrics == {"ok": False, "error": text}


def test_a_failing_service_is_no_answer(server: FaultServer, tavily: dict[str, Any]) -> None:
    server.plan = [failed(401)]
    with pytest.raises(InfraFailure, match="InvalidAPIKeyError"):
        call(tavily, {"query": "x"})


def test_in_a_trajectory_it_is_an_infra_failure_of_that_tool(server: FaultServer, tavily: dict[str, Any]) -> None:
    server.plan = [failed(401)]
    tool = TrajectoryTool(TavilySearch(tavily))
    response, _, metrics = asyncio.run(tool.execute("id", {"query": "x"}))
    assert response.text == "tavily-search is unavailable."
    assert (metrics["ok"], metrics["infra"]) == (False, True)
    assert "InvalidAPIKeyError" in metrics["error"]


def test_a_replay_can_answer_misses_with_a_message(server: FaultServer, tavily: dict[str, Any]) -> None:
    call(tavily | {"mode": "record"}, {"query": "known"})
    replay = tavily | {"mode": "replay", "on_miss": "error"}
    assert call(replay, {"query": "known"})[1]["ok"]
    text, metrics = call(replay, {"query": "unknown"})
    assert text == "Error: nothing is known about 'unknown'; try another query."
    assert not metrics["ok"]


def test_verl_loads_it_from_its_config_with_the_schema_of_the_prompts(local: dict[str, Any], tmp_path: Path) -> None:
    tools = [{"class_name": "verl_axpo.tools.search.tool.TavilySearch", "config": local}]
    (tmp_path / "tools.yaml").write_text(json.dumps({"tools": tools}))
    (tool,) = load_all_tools(str(tmp_path / "tools.yaml"), None)
    dumped = tool.tool_schema.model_dump(exclude_unset=True, exclude_none=True)
    assert json.dumps([dumped]) == json.dumps([TAVILY_SEARCH.schema])
    assert tool.name == "tavily-search"


def test_without_a_key_and_documents_the_tool_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAVILY_API_KEY", raising=False)
    with pytest.raises(ValueError, match="nothing to search with"):
        TavilySearch({"type": "native"})


def test_it_works_where_verl_is_not_imported(local: dict[str, Any]) -> None:
    code = f"""
import asyncio, sys
from verl_axpo.tools.search.service import Search
config = {local!r}
print(asyncio.run(Search(config).search("capital", 1))[0].url, {{"verl", "torch", "ray"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "oslo.txt set()"
