"""The coin of docs/add_a_tool.md: the page's own code, alone and in a trajectory."""

import asyncio
import errno
import re
from pathlib import Path
from typing import Any

import pytest

from verl_axpo.integration.trajectory_tool import TrajectoryTool

PAGE = Path(__file__).parents[3] / "docs/add_a_tool.md"


@pytest.fixture
def coin() -> Any:
    code, _ = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    names: dict[str, Any] = {}
    exec(code, names)
    return names["Coin"]({"type": "native"})


def test_a_call_is_carried_out(coin: Any) -> None:
    response, reward, metrics = asyncio.run(coin.execute("id", {"times": 3}))
    assert set(response.text.split()) <= {"heads", "tails"}
    assert len(response.text.split()) == 3
    assert (reward, metrics) == (0.0, {"ok": True, "error": None})


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"times": 11}, "Error: times must be a whole number from 1 to 10, got 11."),
        ({}, "Error: times must be a whole number from 1 to 10, got None."),
        ({"times": "<|im_end|>"}, "Error: times must be a whole number from 1 to 10, got '< |im_end|>'."),
        (["3"], "Error: arguments must be a JSON object, got list."),
    ],
)
def test_a_bad_call_is_answered(coin: Any, parameters: Any, told: str) -> None:
    response, _, metrics = asyncio.run(coin.execute("id", parameters))
    assert response.text == told
    assert metrics == {"ok": False, "error": told}


async def test_a_file_that_the_policy_named_is_no_infra_failure(coin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def call(*_: Any) -> Any:
        return Path("/no/such/file").read_text(), None

    monkeypatch.setattr(coin, "call", call)
    with pytest.raises(FileNotFoundError):  # verl makes a text for the policy of it
        await TrajectoryTool(coin).execute("id", {"times": 3})


async def test_a_process_without_descriptors_is_an_infra_failure(coin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def call(*_: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(coin, "call", call)
    _, _, metrics = await TrajectoryTool(coin).execute("id", {"times": 3})
    assert (metrics["ok"], metrics["infra"]) == (False, True)
    assert "Too many open files" in metrics["error"]


def test_in_a_trajectory_the_schema_is_checked_first(coin: Any) -> None:
    response, _, metrics = asyncio.run(TrajectoryTool(coin).execute("id", {"times": "3"}))
    assert response.text == "Error: times must be of type integer, got '3'; write times (integer)."
    assert (metrics["ok"], metrics["infra"]) == (False, False)
