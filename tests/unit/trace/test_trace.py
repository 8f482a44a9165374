"""The trace on disk: what is written can be read, and the rest of a killed run is skipped, named and replaced."""

import json
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from verl_axpo.files import append_lines
from verl_axpo.trace import (
    ToolCall,
    TraceWriter,
    TrajectoryRecord,
    iter_steps,
    list_steps,
    read_step,
    store_image,
)

CONTRACT = (
    "step uid session kind source_session selected status question ground_truth images prompt_len response_ids "
    "response_mask logprobs text tool_calls prefix_len tool_call_span confidence entropy reward recovery "
    "advantage_prefix advantage num_turns started finished"
)


def test_a_line_has_exactly_the_fields_of_the_contract(make: Callable[[int], Any]) -> None:
    line = json.loads(make(1)[0][0].to_json())
    assert " ".join(line) == CONTRACT
    assert (line["kind"], line["status"]) == ("rollout", "ok")
    calls = next(record for record in make(1)[0] if record.tool_calls)
    assert list(json.loads(calls.to_json())["tool_calls"][0]) == [
        "name",
        "arguments",
        "ok",
        "infra",
        "seconds",
        "error",
    ]


def test_records_and_summary_come_back_equal(make: Callable[[int], Any], tmp_path: Path) -> None:
    records, summary = make(1)
    with TraceWriter(tmp_path) as writer:
        writer.write_step(records, summary)
    step = read_step(tmp_path, 1)
    assert step.complete
    assert step.defects == ()
    assert [record.to_json() for record in step.records] == [record.to_json() for record in records]
    assert step.summary is not None
    assert step.summary.config == summary.config
    assert tuple(step.summary.candidates) == tuple(summary.candidates)
    assert step.summary.num_records == len(records)


def test_arrays_are_written_as_lists_are(make: Callable[[int], Any]) -> None:
    record = make(1)[0][0]
    arrays = {"response_ids": np.array(record.response_ids), "response_mask": np.array(record.response_mask)}
    assert replace(record, **arrays).to_json() == record.to_json()


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth else []


@pytest.mark.parametrize("arguments", [{"n": 2**70}, {"label": "\ud800"}, {"\udfff": 1}, nested(300)])
def test_whatever_the_policy_puts_into_a_call_is_written(make: Callable[[int], Any], arguments: Any) -> None:
    call = ToolCall(name="zoom\ud800", arguments=arguments, ok=False, error="no tool zoom\ud800")
    line = replace(make(1)[0][0], tool_calls=[call]).to_json()
    (written,) = TrajectoryRecord.from_json(line).tool_calls
    assert (written.name, written.arguments) == ("zoom\\ud800", ascii(arguments))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward": None}, r"Expected `float`, got `null` - at `\$.reward`"),
        ({"kind": "copy"}, "kind: expected rollout, for source_session is None"),
        ({"extra": 1}, r"not known \['extra'\]"),
    ],
)
def test_a_line_that_breaks_the_contract_is_refused(
    make: Callable[[int], Any], change: dict[str, Any], message: str
) -> None:
    line = json.dumps(json.loads(make(1)[0][0].to_json()) | change)
    with pytest.raises(ValueError, match=message):
        TrajectoryRecord.from_json(line)


def test_a_torn_last_line_is_skipped_and_named(trace_dir: Path) -> None:
    path = trace_dir / "step_000002.jsonl"
    whole = len(read_step(trace_dir, 2).records)
    path.write_bytes(path.read_bytes()[:-40])
    step = read_step(trace_dir, 2)
    assert len(step.records) == whole - 1
    assert "ends in the middle" in step.defects[-1]


def test_resuming_replaces_the_killed_step_and_drops_later_ones(trace_dir: Path, make: Callable[[int], Any]) -> None:
    (trace_dir / "step_000003.summary.json").unlink()  # killed inside step 3, whose checkpoint was step 1
    before = (trace_dir / "step_000001.jsonl").read_bytes()
    with TraceWriter(trace_dir) as writer:
        writer.write_step(*make(2))
    assert list_steps(trace_dir) == [1, 2]
    assert (trace_dir / "step_000001.jsonl").read_bytes() == before
    assert len(read_step(trace_dir, 2).records) == len(make(2)[0])  # replaced, not appended to
    assert (trace_dir / "superseded" / "step_000003.jsonl").exists()


def test_begin_step_clears_what_lies_after_the_checkpoint(trace_dir: Path) -> None:
    TraceWriter(trace_dir).begin_step(2)
    assert [step.step for step in iter_steps(trace_dir)] == [1]


def test_a_record_of_another_step_is_refused(tmp_path: Path, make: Callable[[int], Any]) -> None:
    with TraceWriter(tmp_path) as writer, pytest.raises(ValueError, match=r"steps \[1\], expected step 2"):
        writer.write_step(make(1)[0], make(2)[1])


def test_a_disk_error_is_raised_by_a_later_call(tmp_path: Path, make: Callable[[int], Any]) -> None:
    writer = TraceWriter(tmp_path)
    (tmp_path / "step_000001.jsonl").mkdir()
    (tmp_path / "step_000001.jsonl" / "file").touch()
    (tmp_path / "superseded" / "step_000001.jsonl").mkdir(parents=True)
    (tmp_path / "superseded" / "step_000001.jsonl" / "file").touch()
    writer.write_step(*make(1))
    with pytest.raises(OSError, match="step_000001"):
        writer.flush()


def _write_forever(trace_dir: Path, make: Callable[[int], Any], started: Any) -> None:
    with TraceWriter(trace_dir) as writer:
        for step in range(1, 10_000):
            writer.write_step(*make(step))
            if step == 5:
                started.set()


def test_a_killed_run_leaves_whole_steps_and_a_resumed_one_continues(
    tmp_path: Path, make: Callable[[int], Any]
) -> None:
    context = multiprocessing.get_context("fork")
    started = context.Event()
    process = context.Process(target=_write_forever, args=(tmp_path, make, started))
    process.start()
    assert started.wait(60)
    process.kill()
    process.join()
    *finished, last = list_steps(tmp_path)
    assert all(read_step(tmp_path, step).complete for step in finished)
    with TraceWriter(tmp_path) as writer:
        writer.write_step(*make(last))
    steps = list(iter_steps(tmp_path))
    assert [step.step for step in steps] == list(range(1, last + 1))
    for step in steps:
        assert [record.to_json() for record in step.records] == [record.to_json() for record in make(step.step)[0]]


def _append(path: Path, letter: str) -> None:
    for _ in range(200):
        append_lines(path, [letter.encode() * 5000])


def test_lines_of_several_processes_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "shared.jsonl"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_append, args=(path, letter)) for letter in "xyz"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    lines = path.read_text().splitlines()
    assert sorted(lines) == [letter * 5000 for letter in "xyz" for _ in range(200)]


def test_an_image_is_stored_once_under_its_content(tmp_path: Path) -> None:
    red, blue = Image.new("RGB", (4, 3), "red"), Image.new("RGB", (4, 3), "blue")
    paths = [store_image(tmp_path, image) for image in (red, red.copy(), blue, red)]
    assert paths[0] == paths[1] == paths[3] != paths[2]
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == sorted({Path(path).name for path in paths})
    assert Image.open(tmp_path / paths[2]).getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize(("mode", "pixel"), [("RGBA", (0, 0, 0, 0)), ("LA", (0, 0)), ("I;16", 65_535)])
def test_a_stored_image_is_what_is_seen(mode: str, pixel: Any, tmp_path: Path) -> None:
    stored = store_image(tmp_path, Image.new(mode, (4, 3), pixel))
    with Image.open(tmp_path / stored) as image:
        assert (image.mode, image.getpixel((0, 0))) == ("RGB", (255, 255, 255))


def test_images_of_one_content_and_two_shapes_differ(tmp_path: Path) -> None:
    wide, tall = Image.new("RGB", (4, 3), "red"), Image.new("RGB", (3, 4), "red")  # the same bytes
    assert store_image(tmp_path, wide) != store_image(tmp_path, tall)


def test_an_unknown_step_or_folder_says_what_there_is(trace_dir: Path) -> None:
    with pytest.raises(ValueError, match="steps there: 1 to 3"):
        read_step(trace_dir, 9)
    with pytest.raises(ValueError, match="expected a folder"):
        list_steps(trace_dir / "nowhere")
