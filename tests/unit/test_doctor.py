"""The doctor: each check with and without a problem; and its version bounds equal those of setup.py and verl."""

import importlib.util
import json
import re
import runpy
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from PIL import Image

from verl_axpo import cli, doctor
from verl_axpo.findings import fine, problem
from verl_axpo.tools.search import local_index

REPO = Path(__file__).parents[2]


def bounds_of(requirements: Sequence[str], package: str) -> SpecifierSet:
    """What a list of requirements says of a package that it names once without a marker."""
    parsed = map(Requirement, requirements)
    (found,) = (line.specifier for line in parsed if line.name == package and line.marker is None and line.specifier)
    return found


# ------------------------------ versions ------------------------------


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What setup.py hands to setuptools."""
    told: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", told.update)
    runpy.run_path(str(REPO / "setup.py"))
    return told


def test_bounds_are_those_of_setup_py(declared: dict[str, Any]) -> None:
    assert SpecifierSet(doctor.PYTHON) == SpecifierSet(declared["python_requires"])
    assert SpecifierSet(doctor.SUPPORTED["verl"][0]) == bounds_of(declared["install_requires"], "verl")
    (vllm,) = (Requirement(line) for line in declared["extras_require"]["cpu"])
    assert vllm.name in doctor.SUPPORTED["vllm"][1]
    assert pinned_inside("vllm", str(vllm.specifier))


@pytest.mark.parametrize("package", ["transformers", "ray"])
def test_bounds_are_those_of_verl(package: str) -> None:
    assert SpecifierSet(doctor.SUPPORTED[package][0]) == bounds_of(metadata.requires("verl") or [], package)


@pytest.mark.parametrize("package", ["torch", "transformers", "vllm"])
def test_pins_of_verls_vllm_extra_are_inside(package: str) -> None:
    parsed = map(Requirement, metadata.requires("verl") or [])
    pins = [line for line in parsed if line.name == package and str(line.marker) == 'extra == "vllm"']
    assert [pinned_inside(package, str(pin.specifier)) for pin in pins] == [True]


@pytest.mark.parametrize("stack", ["cpu", "gpu"])
@pytest.mark.parametrize("package", doctor.SUPPORTED)
def test_the_tested_versions_are_inside(package: str, stack: str) -> None:
    names = "|".join(map(re.escape, (package, *doctor.SUPPORTED[package][1])))
    lock = (REPO / f"requirements/{stack}.txt").read_text()
    (pin,) = re.findall(rf"^(?:{names})(?:\[[\w,-]+\])?(==[\w.]+)", lock, re.MULTILINE)
    assert pinned_inside(package, pin)


def pinned_inside(package: str, pin: str) -> bool:
    assert pin.startswith("=="), pin
    return SpecifierSet(doctor.SUPPORTED[package][0]).contains(pin.removeprefix("=="))


def test_python_and_packages_out_of_bounds() -> None:
    assert doctor.check_python("3.12.1").ok
    assert not doctor.check_python("3.13.0").ok
    assert doctor.check_package("torch", ">=2.11,<2.12").ok
    assert not doctor.check_package("torch", ">=3").ok
    missing = doctor.check_package("no-such-package", ">=1")
    assert (missing.ok, missing.found) == (False, "not installed")
    assert doctor.check_package("no-such-package", ">=2.11,<2.12", ("torch",)).name == "torch"


# ------------------------------ registries and platform ------------------------------


def test_a_missing_registration_is_found_with_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "plugin_fix", lambda: "install it")
    finding = doctor.check_registered("trainer", "sys", "modules", "axpo_sync")
    assert (finding.ok, finding.fix) == (False, "install it")
    assert doctor.check_registered("trainer", "sys", "modules", "sys").ok
    assert "no attribute" in doctor.check_registered("trainer", "sys", "nothing", "x").found


def test_a_verl_that_cannot_be_imported_has_no_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "verl", None)  # `import verl` raises ModuleNotFoundError
    (finding,) = doctor.check_plugin()
    assert (finding.ok, finding.fix) == (False, doctor.SETUP)
    assert "import of verl halted" in finding.found


@pytest.mark.parametrize(
    ("entry_points", "fix"),
    [
        ([], "verl-axpo is not installed in this environment"),
        (
            [metadata.EntryPoint(doctor.PLUGIN, "verl_axpo.no_such_module", "verl.plugins")],
            "verl_axpo.no_such_module cannot be imported: ModuleNotFoundError",
        ),
    ],
)
def test_why_the_plugin_is_not_there(
    monkeypatch: pytest.MonkeyPatch, entry_points: list[metadata.EntryPoint], fix: str
) -> None:
    monkeypatch.setattr(metadata, "entry_points", lambda group: entry_points)
    assert doctor.plugin_fix().startswith(fix)


def test_a_platform_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = SimpleNamespace(device_name="cuda", is_available=lambda: False)
    monkeypatch.setitem(sys.modules, "verl.plugin.platform", SimpleNamespace(get_platform=lambda: broken))  # type: ignore[arg-type]
    finding = doctor.check_platform()
    assert (finding.ok, finding.found) == (False, "cuda (SimpleNamespace)")
    assert "VERL_PLATFORM=cpu" in finding.fix
    monkeypatch.setitem(sys.modules, "verl.plugin.platform", None)
    assert not doctor.check_platform().ok


def test_with_json_the_findings_are_one_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = [fine("python", "3.11"), problem("vllm", "not installed", "install it")]
    monkeypatch.setattr(doctor, "examine", lambda: iter(findings))
    monkeypatch.setattr(sys, "argv", ["verl-axpo", "doctor", "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == cli.FINDING
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert told["findings"][1] == {"name": "vllm", "found": "not installed", "ok": False, "fix": "install it"}


# ------------------------------ tools ------------------------------


def test_each_tool_is_listed_with_its_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAVILY_API_KEY", raising=False)
    sandbox, zoom, search = doctor.check_tools()
    assert sandbox.name == "tool python"
    assert sandbox.ok == ("bubblewrap works" in sandbox.found or "sandlock works" in sandbox.found)
    assert "bubblewrap" in sandbox.fix
    assert (zoom.name, zoom.ok) == ("tool image_zoom_in", True)
    assert zoom.found == "Pillow works"
    assert (search.name, search.ok) == ("tool tavily-search", True)
    assert search.found == "SQLite works: local documents, replay; TAVILY_API_KEY is not set: no live search"


def test_without_any_sandbox_the_fix_is_to_install_one(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sandlock" else find(name))
    finding = doctor.check_sandbox()
    assert not finding.ok
    assert finding.found == "bubblewrap bwrap is not installed; sandlock sandlock is not installed"
    assert "apt install bubblewrap" in finding.fix
    assert "pip install sandlock" in finding.fix


def test_a_pillow_without_jpeg_cannot_zoom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(Image.SAVE, "JPEG")
    finding = doctor.check_zoom()
    assert (finding.ok, finding.found) == (False, "Pillow: KeyError('JPEG')")
    assert finding.fix.startswith(doctor.SETUP)


def test_a_crop_of_a_wrong_size_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "resize", lambda image, *_: image)
    finding = doctor.check_zoom()
    assert (finding.ok, finding.found) == (False, "Pillow: found (32, 32), expected (256, 256)")  # half of 64 x 64


def test_an_sqlite_without_fts5_cannot_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_index, "_SCHEMA", local_index._SCHEMA.replace("fts5", "fts5_left_out"))
    finding = doctor.check_search()
    assert not finding.ok
    assert finding.found == "SQLite: OperationalError('no such module: fts5_left_out')"
    assert finding.fix.startswith("remove .venv and make it again on a Python whose sqlite3 has FTS5")


def test_a_search_that_finds_nothing_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_index, "_selective", lambda connection, query: ["absent"])
    finding = doctor.check_search()
    assert (finding.ok, finding.found) == (False, "SQLite: found [], expected ['norway.txt']")


def test_a_search_without_room_for_its_files_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.tempfile, "tempdir", "/no/such/folder")
    finding = doctor.check_search()
    assert not finding.ok
    assert "FileNotFoundError" in finding.found
    assert finding.fix.endswith("room for files under /no/such/folder")


def test_a_key_is_neither_tried_nor_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAVILY_API_KEY", "tvly-secret")
    finding = doctor.check_search()
    assert finding.ok
    assert finding.found.endswith("TAVILY_API_KEY is set, not tried: a call is paid")
    assert "secret" not in finding.found
