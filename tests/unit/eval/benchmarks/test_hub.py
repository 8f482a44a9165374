"""Downloading: the real `datasets` and `huggingface_hub` clients against a hub on this machine."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from examples.tiny_world.mirror import Repository, app, serving
from verl_axpo.eval import benchmarks

# Endpoint and cache are read when the clients are imported: hence a process of its own.
_LOAD = """
import json, sys
from verl_axpo.eval import benchmarks
found = {}
for name, _, revision in (one.partition("@") for one in sys.argv[1:]):
    try:
        questions = benchmarks.load(name, revision=revision or None, check_count=False)
        found[name] = [question.uid for question in questions]
    except benchmarks.BenchmarkError as error:
        found[name] = str(error)
print(json.dumps(found))
"""

_RESOLVE = """
import sys
from functools import partial
from types import SimpleNamespace
from verl_axpo.eval import benchmarks
from verl_axpo.eval.registry import load
registry = SimpleNamespace(load=partial(benchmarks.load, check_count=False), commit_of=benchmarks.commit_of)
for name, _, revision in (one.partition("@") for one in sys.argv[1:]):
    loaded = load(registry, name, None, revision or None)
    print(len(loaded.questions), loaded.revision)
"""


VSTAR = "craigwu/vstar_bench"


@contextmanager
def serve(repositories: dict[str, Path], root: Path) -> Iterator[str]:
    """A mirror of folders under the names of datasets; yields its URL."""
    for name, folder in repositories.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(folder, target_is_directory=True)
    with serving(app(root)) as url:
        yield url


def run(endpoint: str, home: Path, code: str, *asked: str) -> list[str]:
    """The lines that `code` prints in a process of its own."""
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", code, *asked]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    return done.stdout.splitlines()


def load(endpoint: str, home: Path, *asked: str) -> dict[str, list[str] | str]:
    """The ids of the questions of each NAME or NAME@REVISION, or the error's message."""
    found: dict[str, list[str] | str] = json.loads(run(endpoint, home, _LOAD, *asked)[-1])
    return found


def test_a_branch_is_read_at_its_commit_which_is_noted(data: dict[str, Path], tmp_path: Path) -> None:
    count = len(benchmarks.load("vstar", data["vstar"], check_count=False))
    commit, home = Repository.of(VSTAR, data["vstar"]).commit, tmp_path / "home"
    with serve({VSTAR: data["vstar"]}, tmp_path / "hub") as endpoint:
        found = run(endpoint, home, _RESOLVE, "vstar", f"vstar@{commit}", "vstar@main")
        load(endpoint, home, "vstar@main")  # as a download by hand leaves it in the cache
    assert found == [f"{count} {commit}"] * 3
    # The hub is gone: what was downloaded is there, and nobody says which commit the branch is at
    assert run(endpoint, home, _RESOLVE, f"vstar@{commit}", "vstar") == [f"{count} {commit}", f"{count} main"]


def test_every_benchmark_downloads_from_a_hub(data: dict[str, Path], tmp_path: Path) -> None:
    repositories = {benchmarks.get(name).source.repo: data[name] for name in benchmarks.names()}
    pinned = []
    for name in ("vstar", "mathvision"):
        repository = benchmarks.get(name).source.repo
        pinned.append(f"{name}@{Repository.of(repository, data[name]).commit}")
    with serve(repositories, tmp_path / "hub") as endpoint:
        found = load(endpoint, tmp_path / "home", *benchmarks.names(), *pinned)
    local = {
        name: [question.uid for question in benchmarks.load(name, data[name], check_count=False)]
        for name in benchmarks.names()
    }
    assert found == local


def test_what_the_hub_does_not_have_is_reported_with_what_to_do(data: dict[str, Path], tmp_path: Path) -> None:
    # One through `datasets`, two through `huggingface_hub`; the last is there, but not at that revision.
    with serve({VSTAR: data["vstar"]}, tmp_path / "hub") as endpoint:
        found = load(endpoint, tmp_path / "home", "mathvision", "visualprobe", "vstar@no-such-tag")
    for name, message in found.items():
        source = benchmarks.get(name).source
        revision = "no-such-tag" if name == "vstar" else "main"
        assert str(message).startswith(f"{name}: could not read {source.repo}@{revision}")
        assert f"Copy the dataset {source.repo} here and give its folder as the source" in message
