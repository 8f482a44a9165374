"""For all tests: ``gpu`` tests are skipped without a GPU, and no property test fails because a machine is slow."""

import os

import pytest
import torch
from hypothesis import settings

os.environ["COLUMNS"] = "160"  # the width of the commands' tables, whatever the terminal

# Other work may run on the same cores, so the time of an example says nothing about the code.
settings.register_profile("axpo", deadline=None)
settings.load_profile("axpo")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip ``gpu`` tests without a GPU, saying so."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU on this machine"))
