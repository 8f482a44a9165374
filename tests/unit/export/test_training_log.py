"""A real trace as a log of Inspect, read back by `inspect_ai` and held to the trace."""

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.export.inspect_process import exported, text_of
from tests.unit.trace.real import unpack
from verl_axpo import cli
from verl_axpo.export import to_inspect
from verl_axpo.trace import TracedStep, read_step


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def step(trace: Path) -> TracedStep:
    return read_step(trace, 1)


@pytest.fixture(scope="module")
def log(trace: Path) -> dict[str, Any]:
    return exported(trace.parent, trace.parent / "step.eval", "--step", "1")


def test_every_trajectory_is_a_sample_with_its_reward_and_what_axpo_decided(
    log: dict[str, Any], step: TracedStep
) -> None:
    samples = {(sample["metadata"]["uid"], sample["epoch"] - 1): sample for sample in log["samples"]}
    assert len(samples) == len(log["samples"]) == len(step.records)
    for record in step.records:
        sample, metadata = samples[record.uid, record.session], samples[record.uid, record.session]["metadata"]
        assert sample["scores"]["reward"]["value"] == record.reward
        assert (metadata["source"], metadata["kind"]) == (record.source_session, record.kind)
        assert (metadata["advantage"], metadata["recovery"]) == (record.advantage, record.recovery)
        assert (sample["target"], text_of(sample["input"][0])) == (str(record.ground_truth), record.question)
        assert (metadata["prefix"] is None) == (record.prefix_len is None)
        if record.prefix_len is not None:
            assert record.text.startswith(metadata["prefix"])


def test_messages_have_the_calls_in_order_and_the_words_of_the_response(log: dict[str, Any], step: TracedStep) -> None:
    records = {(record.uid, record.session + 1): record for record in step.records}
    calls = answers = 0
    for sample in log["samples"]:
        record, messages = records[sample["metadata"]["uid"], sample["epoch"]], sample["messages"]
        made = [call for message in messages for call in message.get("tool_calls") or ()]
        assert [call["arguments"] for call in made] == [call.arguments for call in record.tool_calls]
        assert [call["function"] for call in made] == [call.name or "undecodable" for call in record.tool_calls]
        told = [message for message in messages if message["role"] == "tool"]
        assert {message["tool_call_id"] for message in told} <= {call["id"] for call in made}
        for message in messages[1:]:
            assert [word for word in text_of(message).split() if word not in record.text] == []
        calls, answers = calls + len(made), answers + len(told)
    assert calls == sum(len(record.tool_calls) for record in step.records) > 0
    assert 0 < answers <= calls


def test_pictures_of_questions_and_crops_are_in_the_log(log: dict[str, Any], step: TracedStep) -> None:
    shown: dict[str, int] = {"user": 0, "tool": 0}
    for sample in log["samples"]:
        for message in sample["messages"]:
            for part in message["content"] if isinstance(message["content"], list) else ():
                if part["type"] == "image":
                    assert part["image"].startswith("data:image/png;base64,")
                    shown[message["role"]] += 1
    assert shown["user"] + shown["tool"] == sum(len(record.images) for record in step.records)
    assert shown["tool"] > 0


def test_a_step_that_is_not_there_and_a_wrong_ending_are_refused(
    trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["verl-axpo", "export", str(trace), "--to", "inspect", "--out", str(tmp_path / "log.txt")]
    )
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    assert exit_info.value.code == cli.MISTAKE
    assert "expected a name that ends in one of ['.eval', '.json']" in capsys.readouterr().out


def test_without_inspect_the_message_has_the_command(trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verl_axpo.export.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'verl-axpo\[inspect\]'"):
        to_inspect(trace, trace, trace / "log.eval")
