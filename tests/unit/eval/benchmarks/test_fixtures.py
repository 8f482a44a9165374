"""The fixtures as a command and as a registry."""

import subprocess
import sys
from pathlib import Path

import pytest

from examples.benchmark_rows import registry
from verl_axpo.eval import benchmarks
from verl_axpo.eval.benchmarks import BenchmarkError


def test_the_command_writes_a_folder_for_each_benchmark(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.benchmark_rows", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    told = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert told == {name: str(tmp_path / name) for name in benchmarks.names()}
    assert sorted(item.name for item in tmp_path.iterdir()) == sorted(benchmarks.names())


def test_the_registry_loads_the_same_questions_each_time(data: dict[str, Path]) -> None:
    for name in ("dynamath", "vstar"):
        assert registry.load(name) == registry.load(name, data[name])
    assert len(registry.load("mmsearch", limit=1)) == 1
    assert registry.names() == benchmarks.names()


def test_the_registry_names_what_it_has() -> None:
    with pytest.raises(BenchmarkError, match="unknown benchmark 'mathvista'"):
        registry.load("mathvista")
