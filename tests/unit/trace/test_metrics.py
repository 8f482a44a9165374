"""Metrics of tool calls and tokens, by hand."""

import pytest

from verl_axpo.trace import ToolCall
from verl_axpo.trace.metrics import token_metrics, tool_metrics


def call(name: str, seconds: float = 0.0, *, infra: bool = False, error: str | None = None) -> ToolCall:
    return ToolCall(name=name, arguments={}, ok=error is None, infra=infra, seconds=seconds, error=error)


def test_every_tool_has_its_calls_errors_failures_and_mean_seconds() -> None:
    calls = [call("python", 1.0), call("python", 3.0, error="ZeroDivisionError"), call("search", 0.5)]
    calls += [call("python", 5.0, infra=True, error="the sandbox did not start")]
    assert tool_metrics(calls) == {
        "axpo/tool/python/calls": 3,
        "axpo/tool/python/errors": 2,  # the failing service's included
        "axpo/tool/python/infra_failures": 1,
        "axpo/tool/python/seconds": 3.0,  # (1 + 3 + 5) / 3
        "axpo/tool/search/calls": 1,
        "axpo/tool/search/errors": 0,
        "axpo/tool/search/infra_failures": 0,
        "axpo/tool/search/seconds": 0.5,
    }
    assert tool_metrics([]) == {}


def test_a_policy_cannot_invent_names_of_metrics() -> None:
    unknown = [call(name, error=f"Unknown function '{name}'") for name in ("zoom", "zoom/in", "a" * 99)]
    metrics = tool_metrics([*unknown, call("", error="not valid JSON")])
    assert {name.split("/")[2] for name in metrics} == {"unknown", "undecodable"}
    assert metrics["axpo/tool/unknown/calls"] == metrics["axpo/tool/unknown/errors"] == 3


def test_extra_tokens_are_those_of_continuations_over_those_of_rollouts() -> None:
    rollouts = [(False, 30), (False, 10)]
    continuations = [(True, 4), (True, 6)]
    assert token_metrics([*rollouts, *continuations]) == {"axpo/extra_tokens_ratio": pytest.approx(10 / 40)}
    assert token_metrics(rollouts) == {"axpo/extra_tokens_ratio": 0.0}
    assert token_metrics(continuations) == {}  # a share of nothing
