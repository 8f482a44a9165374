"""The wheel in an environment of its own: it imports, registers, carries its data files, and Hydra finds its configs.

    checkout copied -> wheel built -> unpacked into a fresh virtual environment -> run from an empty folder

The environment sees this one's packages, but not its .pth files and so not the checkout.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from importlib import metadata as distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).parents[2]
BUILT_FROM = ("setup.py", "pyproject.toml", "LICENSE", "README.md", "verl_axpo", "hydra_plugins")
BUILD = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
Python = Callable[..., str]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the build leaves no files in the checkout."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in BUILT_FROM:
        path = CHECKOUT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.exists():
            shutil.copy(path, source / name)
    run = subprocess.run([sys.executable, "-c", BUILD, built], cwd=source, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Python:
    """Runs Python arguments in the wheel's environment, from an empty folder, and returns what it prints."""
    home, elsewhere = tmp_path_factory.mktemp("env"), tmp_path_factory.mktemp("elsewhere")
    venv.create(home, with_pip=False, symlinks=True)
    site = next(home.glob("lib/python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(*arguments: str) -> str:
        command = [str(home / "bin/python"), "-W", "ignore", *arguments]
        done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_carries_every_data_file_and_no_test(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    here = {
        str(path.relative_to(CHECKOUT))
        for path in (CHECKOUT / "verl_axpo").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert here - packed == set()
    assert "hydra_plugins/verl_axpo_searchpath/__init__.py" in packed
    assert "hydra_plugins/__init__.py" not in packed  # it would hide other projects' Hydra plugins
    assert [name for name in packed if name.startswith(("tests/", "recipes/", "examples/"))] == []


def test_licence_and_bounds_are_in_the_metadata(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    metadata = archive.read(next(name for name in archive.namelist() if name.endswith("METADATA"))).decode()
    assert re.search(r"^License(-Expression)?: Apache-2.0$", metadata, re.M)
    assert re.search(r"^Requires-Dist: verl\[verl-core\]<0.10,>=0.9.1$", metadata, re.M)


def test_the_list_for_an_existing_verl_is_what_verl_does_not_bring(wheel: Path) -> None:
    """requirements/existing_verl.txt: our dependencies, without verl and what `pip install verl` installs."""
    archive = zipfile.ZipFile(wheel)
    metadata = archive.read(next(name for name in archive.namelist() if name.endswith("METADATA"))).decode()
    declared = [Requirement(line) for line in re.findall(r"^Requires-Dist: (.+)$", metadata, re.M)]
    lines = (CHECKOUT / "requirements/existing_verl.txt").read_text().splitlines()
    listed = {Requirement(line) for line in lines if not line.startswith("#")}
    brought = brought_by("verl")
    assert listed == {need for need in declared if need.marker is None and canonicalize_name(need.name) not in brought}


def brought_by(package: str, extras: frozenset[str] = frozenset(), seen: set[str] | None = None) -> set[str]:
    """The names of an installed package and of everything that it depends on."""
    seen = set() if seen is None else seen
    seen.add(canonicalize_name(package))
    try:
        needs = [Requirement(line) for line in distributions.requires(package) or ()]
    except distributions.PackageNotFoundError:
        return seen
    for need in needs:
        wanted = need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras))
        if wanted and canonicalize_name(need.name) not in seen:
            brought_by(need.name, frozenset(need.extras), seen)
    return seen


def test_imports_from_the_wheel(python: Python) -> None:
    where = python(
        "-c", "import verl_axpo, hydra_plugins.verl_axpo_searchpath as s; print(verl_axpo.__file__, s.__file__)"
    )
    assert str(CHECKOUT) not in where
    assert where.count("site-packages") == 2


def test_registers_with_verl(python: Python) -> None:
    code = (
        "import verl; from verl.plugin.platform import PlatformRegistry;"
        "from verl.trainer.ppo.core_algos import get_adv_estimator_fn;"
        "print('registered', PlatformRegistry.get('cpu').__module__, get_adv_estimator_fn('axpo').__module__)"
    )
    said = python("-c", code).split()
    assert said[-3:] == ["registered", "verl_axpo.platforms.cpu", "verl_axpo.integration.estimator"]


def test_vllm_calls_our_plugin(python: Python) -> None:
    code = (
        "from importlib.metadata import entry_points;"
        "ours = [point for point in entry_points(group='vllm.general_plugins') if point.value.startswith('verl_axpo')];"
        "print(*[point.load().__module__ for point in ours])"
    )
    assert python("-c", code).split()[-1] == "verl_axpo.platforms.vllm_plugin"


def test_the_command_line_runs_from_the_wheel(python: Python) -> None:
    assert "audit" in python(
        "-c", "from verl_axpo.cli import app; import sys; sys.argv = ['verl-axpo', '--help']; app()"
    )


@pytest.mark.parametrize("override", [(), ("+platform=cpu",)], ids=["plain", "platform"])
def test_verls_own_main_finds_our_config(python: Python, override: tuple[str, ...]) -> None:
    arguments = ("-m", "verl.trainer.main_ppo", "--config-name", "axpo_trainer", "--cfg", "job", *override)
    composed = python(*arguments)
    assert "adv_estimator: axpo" in composed
    assert ("device: cpu" in composed) == bool(override)
