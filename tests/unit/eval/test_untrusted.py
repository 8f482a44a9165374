"""A folder that came from somebody else, and what a policy may write: nothing leaves the folder or breaks it."""

import asyncio
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.unit.eval.test_report import OUTCOMES, write
from tests.unit.eval.test_store import record, turn
from verl_axpo.eval.benchmarks.base import BenchmarkError
from verl_axpo.eval.benchmarks.reading import encoded
from verl_axpo.eval.manifest import read_manifest
from verl_axpo.eval.store import Store
from verl_axpo.eval.types import Response
from verl_axpo.report.evaluation import build_report
from verl_axpo.trace.records import ToolCall
from verl_axpo.view.evaluation import EvaluationSource
from verl_axpo.view.source import addresses, answer

SECRET = (250, 3, 77)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "outside" / "secret.png"
    path.parent.mkdir()
    Image.new("RGB", (8, 8), SECRET).save(path)
    return path


def pictures(folder: Path) -> list[bytes]:
    """What the page gets for each picture of the first benchmark's questions; nothing where it is refused."""
    source, found = EvaluationSource(folder), []
    for address in addresses(source, ["cold", "warm"]):
        if address.startswith("image/"):
            try:
                found.append(answer(source, address)[1])
            except ValueError:
                found.append(b"")
    return found


@pytest.mark.parametrize("way", ["parent", "absolute", "link"])
def test_no_path_of_a_rollout_leaves_the_folder(tmp_path: Path, secret: Path, way: str) -> None:
    folder = write(tmp_path / "out", {})
    (folder / "images" / "link.png").symlink_to(secret)
    path = {"parent": "../outside/secret.png", "absolute": str(secret), "link": "images/link.png"}[way]

    async def add() -> None:
        one = turn(responses=(Response(text="x", images=(path,)),), calls=(ToolCall(name="z", arguments={}, ok=True),))
        with Store(folder) as store:
            await store.add_rollout(record("red", benchmark="warm", turns=(one,)))

    asyncio.run(add())
    found = pictures(folder)
    assert found.count(b"") == 1
    assert len(found) == 1 + 4  # the pictures of the four questions


@pytest.mark.parametrize("name", ["../outside/questions", "/etc/passwd"])
def test_no_name_of_a_benchmark_leaves_the_folder(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "out", OUTCOMES)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["benchmarks"][name] = manifest["benchmarks"].pop("warm")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"manifest\.json: .*is no name of a benchmark"):
        read_manifest(folder)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/hostname", "a/../../secret.png"])
def test_no_path_of_a_benchmarks_row_leaves_its_copy(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "copy").mkdir()
    for value in (path, {"bytes": None, "path": path}):
        with pytest.raises(BenchmarkError, match="outside"):
            encoded(value, tmp_path / "copy")


NAMES = ["$\\frac{", "\udc00", "a|b`c", "x" * 5000, "<script>", "\u2028", "_{", "名"]


@pytest.mark.filterwarnings("ignore:Glyph")
def test_whatever_a_tool_or_a_benchmark_is_called_the_report_is_made(tmp_path: Path) -> None:
    folder = write(tmp_path, {("warm", "red"): "cccc"})

    async def add() -> None:
        calls = tuple(ToolCall(name=name, arguments={}, ok=False, error="unknown") for name in NAMES)
        one = turn(calls=calls, responses=(Response(text="no"),) * len(calls))
        with Store(folder) as store:
            await store.add_rollout(record("pink", benchmark="warm", uses_tool=True, turns=(one,)))

    asyncio.run(add())
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["benchmarks"]["warm"]["column"] = "$\\frac{_^"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    path = build_report(folder).path
    tools = json.loads(path.with_suffix(".json").read_text())["benchmarks"]["warm"]["tools"]
    assert sum(row["errors"] for row in tools.values()) == len(NAMES)
    assert max(map(len, tools)) < 50


def test_only_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, OUTCOMES)
    first = next((folder / "images").iterdir())
    for content in (b"", b"GIF89a\xff\xff\xff\xff", b"<svg onload='alert(1)'/>"):
        first.write_bytes(content)
        found = pictures(folder)
        assert found.count(b"") == 1
        assert all(picture.startswith(b"\x89PNG") for picture in found if picture)
