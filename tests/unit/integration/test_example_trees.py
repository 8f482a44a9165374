"""Example trees of a real trace in the run's loggers: TensorBoard's file read back, none where none fit."""

from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from verl.utils.tracking import Tracking

from tests.unit.trace.real import unpack
from verl_axpo.core.config import AxpoConfig
from verl_axpo.integration.example_trees import show_examples
from verl_axpo.report.tree import MOST_PICTURES, Tree, examples, tree
from verl_axpo.trace import TracedStep, read_step

EVERYTHING = 100


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def step(trace: Path) -> TracedStep:
    return read_step(trace, 1)


@pytest.fixture(scope="module")
def trees(trace: Path, step: TracedStep) -> list[Tree]:
    return [tree(question, trace) for question in examples(step.records, EVERYTHING)]


def test_resampled_questions_come_with_the_restored_ones_first(step: TracedStep) -> None:
    resampled = [question for question in step.questions() if question.sources]
    chosen = examples(step.records, EVERYTHING)
    assert {question.uid for question in chosen} == {question.uid for question in resampled}
    restored = [question.restored for question in chosen]
    assert restored == sorted(restored, reverse=True)
    assert set(restored) == {True, False}
    assert [question.uid for question in examples(step.records, 2)] == [question.uid for question in chosen[:2]]


def test_a_source_stands_before_its_continuations_and_each_has_its_numbers(trees: list[Tree]) -> None:
    for example in trees:
        source, seen = None, []
        for branch in example.branches:
            record = branch.record
            if record.source_session is None:
                source = record.session
            else:
                assert record.source_session == source
                assert branch.title == f"continuation {record.session} of rollout {source}"
            seen.append(record.session)
            assert float(branch.facts["reward"]) == record.reward
            assert float(branch.facts["advantage"]) == pytest.approx(record.advantage, rel=1e-3)
            assert f"<b>{branch.title}</b>" in example.html
            assert f"| {branch.title} |" in example.markdown.replace("↳ ", "")
        assert sorted(seen) == sorted(record.session for record in example.question.records)


def test_pictures_are_the_questions_and_the_tools_each_once(trees: list[Tree]) -> None:
    captions = [picture.caption for example in trees for picture in example.pictures]
    assert any(caption == "1: question" for caption in captions)
    assert any("tool, session" in caption for caption in captions)
    for example in trees:
        paths = {path for record in example.question.records for path in record.images}
        assert len(example.pictures) == min(len(paths), MOST_PICTURES)
        assert example.html.count("<img ") == len(example.pictures)


def test_what_a_policy_wrote_is_escaped(trees: list[Tree]) -> None:
    assert all("<tool_call>" not in example.html and "<think>" not in example.markdown for example in trees)


def test_tensorboard_has_metrics_trees_and_pictures_of_the_step(
    trace: Path, step: TracedStep, trees: list[Tree], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORBOARD_DIR", str(tmp_path))
    tracking = Tracking("project", "run", ["tensorboard"])
    config = AxpoConfig(trace_dir=str(trace), example_trees=len(trees))
    show_examples(step.records, config, tracking.logger, step=1)
    tracking.log({"axpo/tool_use_rate": 0.25}, step=1)
    tracking.finish()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.value for event in events.Scalars("axpo/tool_use_rate")] == [0.25]
    for number, example in enumerate(trees, start=1):
        (event,) = events.Tensors(f"axpo/example_{number}/text_summary")
        assert event.tensor_proto.string_val[0].decode() == example.markdown
        for at, picture in enumerate(example.pictures, start=1):
            (image,) = events.Images(f"axpo/example_{number}/picture_{at}")
            assert (image.step, image.width, image.height) == (1, *picture.image.size)


@pytest.mark.parametrize(("backends", "trees"), [(["console"], 2), (["tensorboard"], 0)])
def test_nothing_is_drawn_without_a_logger_that_shows_it_or_when_off(
    backends: list[str], trees: int, trace: Path, step: TracedStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verl_axpo.report.tree.tree", lambda *_: pytest.fail("a tree was drawn"))
    config = AxpoConfig(trace_dir=str(trace), example_trees=trees)
    show_examples(step.records, config, dict.fromkeys(backends), step=1)


def test_a_logger_that_fails_costs_no_training(trace: Path, step: TracedStep, caplog: pytest.LogCaptureFixture) -> None:
    broken: dict[str, Any] = {"tensorboard": None}
    show_examples(step.records, AxpoConfig(trace_dir=str(trace), example_trees=1), broken, step=1)
    assert "step 1: example 1 was not logged" in caplog.text


@pytest.mark.parametrize("trees", [-1, 1.5, True])
def test_a_number_of_trees_that_is_none_is_refused(trees: Any) -> None:
    with pytest.raises(ValueError, match=r"algorithm.axpo.example_trees: got .*, expected an integer >= 0"):
        AxpoConfig(example_trees=trees)
