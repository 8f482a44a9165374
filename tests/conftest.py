"""What every test folder shares: ``gpu`` tests need a GPU, and a slow machine is not a failing property."""

import os

import pytest
import torch
from hypothesis import settings

os.environ["COLUMNS"] = "160"  # of the commands' tables, whatever terminal the tests run in

# Two cores with other work beside the tests: the time of one example says nothing about the code.
settings.register_profile("axpo", deadline=None)
settings.load_profile("axpo")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip ``gpu`` tests without a GPU, saying so."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU on this machine"))
