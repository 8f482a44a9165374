"""`wrapt.register_post_import_hook`: now, later, once per import, and without being in anybody's way.

verl imports its plugins in every process of a run, and most of verl's modules take seconds to import. So a plugin says
what is to happen after a module was imported: processes that use the module get it, and the others pay nothing.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import wrapt


def when_imported(name: str, callback: Callable[[ModuleType], object]) -> None:
    wrapt.register_post_import_hook(callback, name)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "axpo_probe").mkdir()
    (tmp_path / "axpo_probe/__init__.py").write_text("value = 1\n")
    (tmp_path / "axpo_probe/inner.py").write_text("value = 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "axpo_probe"
    for name in ("axpo_probe", "axpo_probe.inner"):
        sys.modules.pop(name, None)


def test_called_after_the_module_has_run(module: str) -> None:
    seen: list[int] = []
    when_imported(f"{module}.inner", lambda inner: seen.append(inner.value))
    importlib.import_module(module)
    assert seen == []  # the package alone is not what was asked for
    importlib.import_module(f"{module}.inner")
    assert seen == [2]
    importlib.import_module(f"{module}.inner")
    assert seen == [2]  # imported once, called once


def test_called_at_once_when_it_is_there(module: str) -> None:
    importlib.import_module(module)
    seen: list[int] = []
    when_imported(module, lambda imported: seen.append(imported.value))
    assert seen == [1]


def test_several_callbacks_in_order(module: str) -> None:
    seen: list[str] = []
    when_imported(module, lambda _: seen.append("first"))
    when_imported(module, lambda _: seen.append("second"))
    importlib.import_module(module)
    assert seen == ["first", "second"]


def test_callback_may_import_and_replace(module: str) -> None:
    def replace(imported: object) -> None:
        inner = importlib.import_module(f"{module}.inner")
        imported.value = inner.value  # type: ignore[attr-defined]

    when_imported(module, replace)
    assert importlib.import_module(module).value == 2


def test_missing_module_stays_missing() -> None:
    when_imported("axpo_no_such_module", lambda _: None)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("axpo_no_such_module")


def test_loader_still_answers_other_questions(module: str) -> None:
    when_imported(module, lambda _: None)
    loader = importlib.import_module(module).__spec__.loader
    assert loader.get_source(module) == "value = 1\n"  # inspect.getsource needs it
