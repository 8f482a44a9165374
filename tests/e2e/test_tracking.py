"""A real step in TensorBoard, W&B (offline) and MLflow, and verl's `rollout.trace` of it in MLflow.

MLflow is not among the pinned packages, which are newer than it allows; docs/tracking.md has the commands that put it
into an environment next to them. There: `python -m pytest tests/e2e/test_tracking.py` (three minutes).
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.e2e.conftest import MainPpo
from verl_axpo.trace import TracedStep, read_step

TREES = 16  # more than a step of 16 questions has: every resampled question is shown
LOGGED = ("axpo/tool_use_rate", "axpo/selected", "actor/loss")


@pytest.mark.slow
def test_a_step_is_where_people_look(main_ppo: MainPpo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed here; docs/tracking.md has the commands")
    monkeypatch.setenv("TENSORBOARD_DIR", str(tmp_path / "tensorboard"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    trace = tmp_path / "trace"
    main_ppo(
        "run",
        "--config-name",
        "tiny_rl",
        "trainer.logger=[console,tensorboard,wandb,mlflow]",
        f"algorithm.axpo.trace_dir={trace}",
        f"algorithm.axpo.example_trees={TREES}",
        "actor_rollout_ref.rollout.trace.backend=mlflow",
        "actor_rollout_ref.rollout.trace.token2text=true",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
    )
    step = read_step(trace, 1)
    resampled = sum(bool(question.sources) for question in step.questions())
    assert resampled > 0
    check_tensorboard(tmp_path / "tensorboard", resampled)
    check_wandb(tmp_path / "wandb", resampled)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    check_mlflow_run(mlflow, resampled)
    check_rollout_trace(mlflow, step)


@pytest.mark.slow
def test_trackio_names_the_source_of_each_continuation(
    main_ppo: MainPpo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its list of traces is flat: a row per span, and the session whose prefix is continued among the inputs."""
    pytest.importorskip("trackio", reason="Trackio is not installed here; docs/tracking.md has the commands")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    main_ppo(
        "run",
        "--config-name",
        "tiny_rl",
        f"algorithm.axpo.trace_dir={tmp_path / 'trace'}",
        "actor_rollout_ref.rollout.trace.backend=trackio",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
    )
    (database,) = (tmp_path / "trackio").glob("*.db")
    with closing(sqlite3.connect(database)) as connection:
        rows = [orjson.loads(metadata) for (metadata,) in connection.execute("SELECT metadata FROM traces")]
    asked = [row["inputs"]["kwargs"] for row in rows if row["op"] == "ToolAgentLoop.run"]
    records = read_step(tmp_path / "trace", 1).records
    assert sorted((each["uid"], each["session_id"], each.get("source_session", -1)) for each in asked) == sorted(
        (record.uid, record.session, -1 if record.source_session is None else record.source_session)
        for record in records
    )
    assert any(record.source_session is not None for record in records)


def check_tensorboard(folder: Path, resampled: int) -> None:
    events = EventAccumulator(str(folder)).Reload()
    assert set(LOGGED) <= set(events.Tags()["scalars"])
    assert sum("example" in tag for tag in events.Tags()["tensors"]) == resampled
    assert any(tag.endswith("picture_1") for tag in events.Tags()["images"])


def check_wandb(folder: Path, resampled: int) -> None:
    """The run's file holds what `wandb sync` would upload: its strings are there as they are."""
    (run,) = folder.glob("offline-run-*")
    (log,) = run.glob("*.wandb")
    assert all(name.encode() in log.read_bytes() for name in LOGGED)
    pages = list((run / "files/media/html/axpo").glob("example_*.html"))
    assert len(pages) == resampled
    assert all("continuation" in page.read_text() for page in pages)
    assert list((run / "files/media/images/axpo").rglob("*.png"))


def check_mlflow_run(mlflow: Any, resampled: int) -> None:
    (run,) = mlflow.search_runs(output_format="list", search_all_experiments=True)
    assert set(LOGGED) <= set(run.data.metrics)
    client, run_id = mlflow.MlflowClient(), run.info.run_id
    folders = {item.path for item in client.list_artifacts(run_id, "axpo")}
    assert folders == {f"axpo/example_{number}" for number in range(1, resampled + 1)}
    for folder in folders:
        assert [item.path for item in client.list_artifacts(run_id, folder)] == [f"{folder}/step_000001.html"]
    assert client.list_artifacts(run_id, "images")


def check_rollout_trace(mlflow: Any, step: TracedStep) -> None:
    """A trace per rollout. A source's holds its continuations, under the span of its own trajectory."""
    ids = [experiment.experiment_id for experiment in mlflow.search_experiments()]
    traces = mlflow.search_traces(locations=ids, return_type="list", max_results=1000)
    expected, found = defaultdict[Any, set[int]](set), defaultdict[Any, set[int]](set)
    for record in step.records:
        source = record.session if record.source_session is None else record.source_session
        expected[record.uid, source].add(record.session)
    spans: dict[str, int] = defaultdict(int)
    for trace in traces:
        (root,) = [span for span in trace.data.spans if span.parent_id is None]
        assert root.name == "rollout"
        by_id = {span.span_id: span for span in trace.data.spans}
        for span in trace.data.spans:
            spans[span.name] += 1
            if span.name != "ToolAgentLoop.run":
                continue
            asked = span.inputs["kwargs"]
            source = asked.get("source_session", asked["session_id"])
            found[asked["uid"], source].add(asked["session_id"])
            assert trace.info.tags["rollout_n"] == str(source)
            above = [ancestor for ancestor in ancestors(span, by_id) if ancestor.name == "ToolAgentLoop.run"]
            assert [ancestor.inputs["kwargs"]["session_id"] for ancestor in above] == [source] * (
                "source_session" in asked
            )
    assert found == expected
    assert spans["AxpoToolAgentLoop._call_tool"] == sum(len(record.tool_calls) for record in step.records)
    assert spans["LLMServerClient.generate"] == sum(len(record.turn_lengths or ()) for record in step.records)


def ancestors(span: Any, by_id: dict[str, Any]) -> Iterator[Any]:
    while span.parent_id is not None:
        span = by_id[span.parent_id]
        yield span
