"""The fixtures of `examples.benchmark_rows`, written once, and a dataset cache that goes away with the tests."""

from pathlib import Path

import datasets
import pytest

from examples import benchmark_rows


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of each benchmark's fixture rows."""
    return benchmark_rows.write(tmp_path_factory.mktemp("benchmarks"))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` writes its tables here."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets")
