"""Downloading: the real `datasets` and `huggingface_hub` clients against a hub on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.unit.eval.benchmarks.hub import COMMIT, serve
from verl_axpo.eval import benchmarks

# Endpoint and cache are read when the clients are imported: hence a process of its own.
_LOAD = """
import json, sys
from verl_axpo.eval import benchmarks
found = {}
for name in sys.argv[2:]:
    try:
        found[name] = [question.uid for question in benchmarks.load(name, revision=sys.argv[1], check_count=False)]
    except benchmarks.BenchmarkError as error:
        found[name] = str(error)
print(json.dumps(found))
"""


def load(endpoint: str, home: Path, revision: str, *names: str) -> dict[str, list[str] | str]:
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, revision, *names],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found: dict[str, list[str] | str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_every_benchmark_downloads_from_a_hub(data: dict[str, Path], tmp_path: Path) -> None:
    repositories = {benchmarks.get(name).source.repo: data[name] for name in benchmarks.names()}
    with serve(repositories) as endpoint:
        found = load(endpoint, tmp_path, COMMIT, *benchmarks.names())
    local = {
        name: [question.uid for question in benchmarks.load(name, data[name], check_count=False)]
        for name in benchmarks.names()
    }
    assert found == local


def test_a_hub_without_the_dataset_is_said_with_what_to_do(tmp_path: Path) -> None:
    names = ("mathvision", "vstar")  # one through datasets, one through huggingface_hub
    with serve({}) as endpoint:
        found = load(endpoint, tmp_path, "main", *names)
    for name in names:
        repository = benchmarks.get(name).source.repo
        message = found[name]
        assert isinstance(message, str)
        assert message.startswith(f"{name}: could not read {repository}@main")
        assert f"Copy the dataset {repository} here and give its folder as the source" in message


def test_a_revision_that_does_not_exist_is_said(data: dict[str, Path], tmp_path: Path) -> None:
    with serve({benchmarks.get("vstar").source.repo: data["vstar"]}) as endpoint:
        found = load(endpoint, tmp_path, "no-such-tag", "vstar")
    assert str(found["vstar"]).startswith("vstar: could not read craigwu/vstar_bench@no-such-tag")
