"""An evaluation as a log of Inspect, read back by `inspect_ai` and compared with the evaluation's own lines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.unit.agent.scripted import ScriptedServer
from tests.unit.eval.conftest import evaluate
from tests.unit.export.inspect_process import exported, text_of
from verl_axpo.eval.store import Store


def test_samples_have_the_turns_and_verdicts_of_the_evaluation(
    serve: Callable[..., ScriptedServer], tmp_path: Path
) -> None:
    folder = tmp_path / "evaluation"
    evaluate(serve().url, folder)
    store = Store(folder).load()
    log = exported(folder, tmp_path / "log.eval")
    samples: dict[Any, Any] = {
        (sample["metadata"]["benchmark"], sample["metadata"]["uid"], sample["epoch"] - 1): sample
        for sample in log["samples"]
    }
    rollouts = {record.key: record for record in store.rollouts()}
    assert samples.keys() == rollouts.keys()
    for key, record in rollouts.items():
        verdict, messages = store.scores.get(key), samples[key]["messages"]
        scores = samples[key]["scores"]
        correct = None if verdict is None else verdict.correct
        assert (None if not scores else scores["correct"]["value"]) == {True: "C", False: "I", None: None}[correct]
        spoken = [message for message in messages if message["role"] == "assistant"]
        assert len(spoken) == len(record.turns)
        for message, turn in zip(spoken, record.turns, strict=True):
            assert [word for word in text_of(message).split() if word not in turn.text] == []
            made = [(call["function"], call["arguments"]) for call in message["tool_calls"] or ()]
            assert made == [(call.name, call.arguments) for call in turn.calls]
        told = [message for message in messages if message["role"] == "tool"]
        assert len(told) == sum(len(turn.responses) for turn in record.turns)
    assert any(turn.calls for record in rollouts.values() for turn in record.turns)
