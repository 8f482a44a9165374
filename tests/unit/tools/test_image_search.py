"""The worked example of docs/add_a_tool.md: found pictures, bad calls, and infra failures."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from verl.tools.tool_registry import load_all_tools

from examples.image_search import ImageSearch
from verl_axpo.errors import InfraFailure


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (2048, 512), "red").save(folder / "fox.png")
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(folder / "snow.png")
    captions = [
        {"text": "A red fox in the snow", "url": "fox.png", "title": "Fox"},
        {"text": "Nothing but snow", "url": "snow.png"},
        {"text": "A lost wolf", "url": "wolf.png"},
        {"text": "A secret", "url": "../secret.png"},
    ]
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, captions)))
    Image.new("RGB", (9, 9)).save(tmp_path / "secret.png")
    return {"type": "native", "documents": str(folder), "cache_dir": str(tmp_path / "cache")}


def call(config: dict[str, Any], parameters: Any) -> tuple[Any, dict[str, Any]]:
    response, reward, metrics = asyncio.run(ImageSearch(config).execute("id", parameters))
    assert reward == 0.0
    return response, metrics


def test_pictures_come_with_their_captions_best_first_and_shrunk(config: dict[str, Any]) -> None:
    response, metrics = call(config, {"query": "fox snow"})
    assert response.text == "[1] Fox\nfox.png\nA red fox in the snow\n\n[2] snow.png\nsnow.png\nNothing but snow"
    # 2048 x 512 is four times the area allowed: half of each side. What is transparent is white.
    assert [picture.size for picture in response.image] == [(1024, 256), (20, 20)]
    assert [picture.getpixel((0, 0)) for picture in response.image] == [(255, 0, 0), (255, 255, 255)]
    assert metrics == {"ok": True, "error": None}


def test_no_more_than_asked_for(config: dict[str, Any]) -> None:
    response, _ = call(config, {"query": "fox snow", "max_results": 1})
    assert len(response.image) == 1


def test_nothing_found_is_reported(config: dict[str, Any]) -> None:
    response, metrics = call(config, {"query": "zebra"})
    assert (response.text, response.image) == ("No results. Try other or fewer words.", [])
    assert metrics["ok"]


@pytest.mark.parametrize(
    ("parameters", "told"),
    [({}, "query is missing"), ({"query": "fox", "max_results": "all"}, "from 1 to 20"), (None, "a JSON object")],
)
def test_a_bad_call_is_answered(config: dict[str, Any], parameters: Any, told: str) -> None:
    response, metrics = call(config, parameters)
    assert told in response.text
    assert metrics == {"ok": False, "error": response.text}


@pytest.mark.parametrize(("query", "why"), [("wolf", "cannot be read"), ("secret", "leads out of")])
def test_a_picture_that_cannot_be_read_is_an_infra_failure(config: dict[str, Any], query: str, why: str) -> None:
    with pytest.raises(InfraFailure, match=why):
        call(config, {"query": query})


@pytest.mark.parametrize(
    ("documents", "told"), [(None, "documents: got None"), ("/no/such/folder", "expected a folder that exists")]
)
def test_a_missing_folder_is_reported_at_start(documents: str | None, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ImageSearch({"type": "native", "documents": documents})


def test_one_line_of_config_loads_it(config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "examples"))
    line = {"class_name": "image_search.ImageSearch", "config": config}
    (tmp_path / "tools.yaml").write_text(json.dumps({"tools": [line]}))
    (tool,) = load_all_tools(str(tmp_path / "tools.yaml"), None)
    assert tool.name == "image_search"
