"""Kills and full disks at every write of a trace: no finished step is lost, and the same command continues."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import Image

from tests.unit.disk_faults import disk_full, killed_at_each_write
from verl_axpo.audit import audit
from verl_axpo.files import append_lines, write_atomically
from verl_axpo.trace import TraceWriter, TrajectoryRecord, list_steps, read_step, store_image

LAST_STEP = 2
Run = Callable[[Path], None]


@pytest.fixture(scope="module")
def training(step_maker: Callable[..., Any]) -> Run:
    """What the trainer does with a trace: resume after the checkpoint; per step rows, flush, checkpoint."""
    from verl_axpo.core.config import AxpoConfig

    picture = Image.new("RGB", (4, 3), "red")

    def run(folder: Path) -> None:
        with TraceWriter(folder / "trace") as trace:
            trace.begin_step(checkpointed(folder) + 1)
            for step in range(checkpointed(folder) + 1, LAST_STEP + 1):
                image = store_image(folder / "trace", picture)
                trace.write_step(*step_maker(step, AxpoConfig(num_continuations=2), image))
                trace.flush()
                write_atomically(folder / "checkpoint", str(step).encode())

    return run


def checkpointed(folder: Path) -> int:
    path = folder / "checkpoint"
    return int(path.read_bytes()) if path.exists() else 0


def finished(folder: Path) -> dict[str, bytes]:
    """The files of the steps that have a checkpoint: nothing may touch them again."""
    steps = range(1, checkpointed(folder) + 1)
    names = [f"step_{step:06d}.{suffix}" for step in steps for suffix in ("jsonl", "summary.json")]
    return {name: (folder / "trace" / name).read_bytes() for name in names}


def test_a_run_killed_at_any_write_continues_and_passes_the_audit(training: Run, tmp_path: Path) -> None:
    before, scratch = tmp_path / "before", tmp_path / "scratch"
    before.mkdir()
    for place, folder in killed_at_each_write(training, before, scratch):
        kept = finished(folder)
        training(folder)
        result = audit(folder / "trace")
        assert (result.steps, result.differences) == (LAST_STEP, ()), place
        assert finished(folder).items() >= kept.items(), place


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.51, 0.7, 0.9, 0.999])
def test_a_full_disk_stops_the_step_that_it_concerns_and_space_lets_it_go_on(
    training: Run, tmp_path: Path, share: float
) -> None:
    (tmp_path / "all").mkdir()
    training(tmp_path / "all")
    needed = sum(path.stat().st_size for path in (tmp_path / "all").rglob("*") if path.is_file())
    (tmp_path / "run").mkdir()
    error = disk_full(training, tmp_path / "run", int(needed * share))
    assert error is not None
    assert "No space left on device; free some space, then run the same command again: '" in error
    kept = finished(tmp_path / "run")  # raises if a checkpoint says more than the trace has
    training(tmp_path / "run")
    result = audit(tmp_path / "run/trace")
    assert (result.steps, result.differences) == (LAST_STEP, ())
    assert finished(tmp_path / "run").items() >= kept.items()


def test_a_step_lost_between_checkpoint_and_flush_is_a_note_for_ever(
    tmp_path: Path, make: Callable[[int], Any], trace_dir: Path
) -> None:
    """A power cut can lose what the system had not yet written: the resumed run begins after the lost step."""
    (trace_dir / "step_000003.summary.json").unlink()
    torn = (trace_dir / "step_000003.jsonl").read_bytes()[:-40]
    (trace_dir / "step_000003.jsonl").write_bytes(torn)
    (trace_dir / "images/none.png").write_bytes(b"")
    with TraceWriter(trace_dir) as writer:
        writer.begin_step(4)
        writer.write_step(*make(4))
        writer.begin_step(6)  # of step 5 there is not even a file
        writer.write_step(*make(6))
        writer.begin_step(7)
    result = audit(trace_dir)
    assert (result.steps, result.differences) == (4, ())
    assert result.notes == tuple(
        f"step {step}: the run was killed before its trace was written; not audited" for step in (3, 5)
    )
    assert (trace_dir / "lost_steps.jsonl").read_bytes().count(b"\n") == 2  # each is named once


def test_a_step_that_somebody_removed_is_still_a_difference(trace_dir: Path, make: Callable[[int], Any]) -> None:
    with TraceWriter(trace_dir) as writer:
        writer.begin_step(4)
    (trace_dir / "step_000002.summary.json").unlink()
    assert [difference.step for difference in audit(trace_dir).differences] == [2]


def test_an_error_is_told_at_the_flush_of_its_step_and_the_next_step_is_written(
    tmp_path: Path, make: Callable[[int], Any]
) -> None:
    writer = TraceWriter(tmp_path)
    for folder in (tmp_path, tmp_path / "superseded"):  # what is in the way cannot be moved aside
        (folder / "step_000001.jsonl").mkdir(parents=True)
        (folder / "step_000001.jsonl" / "file").touch()
    writer.write_step(*make(1))
    with pytest.raises(OSError, match="step_000001"):
        writer.flush()
    writer.flush()
    writer.write_step(*make(2))
    writer.close()
    assert read_step(tmp_path, 2).complete


# ------------------------------ lines ------------------------------


def line(number: int) -> bytes:
    return orjson.dumps({"line": number, "fill": "x" * 50})


SIZE = len(line(0)) + 1


def append(folder: Path) -> None:
    for number in range(3):
        append_lines(folder / "log.jsonl", [line(number)])


def lines_of(folder: Path) -> list[int]:
    *whole, rest = (folder / "log.jsonl").read_bytes().split(b"\n")
    assert rest == b""
    return [orjson.loads(text)["line"] for text in whole]


def test_no_line_is_glued_to_what_a_killed_writer_left(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    for place, folder in killed_at_each_write(append, tmp_path / "before", tmp_path / "scratch"):
        append(folder)
        assert lines_of(folder)[-3:] == [0, 1, 2], place
        assert lines_of(folder)[:-3] == [0, 1, 2][: len(lines_of(folder)) - 3], place


@pytest.mark.parametrize("free", [0, 1, 30, SIZE - 1, SIZE, SIZE + 1, 2 * SIZE - 1, 2 * SIZE, 3 * SIZE - 1])
def test_a_full_disk_leaves_whole_lines(tmp_path: Path, free: int) -> None:
    (tmp_path / "log.jsonl").touch()
    assert disk_full(append, tmp_path, free) is not None
    assert lines_of(tmp_path) == [0, 1, 2][: free // SIZE]
    append(tmp_path)
    assert lines_of(tmp_path)[-3:] == [0, 1, 2]


def test_a_whole_line_that_lacks_only_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"line":7}\n{"line":8}')
    assert append_lines(path, [b'{"line":9}']) == len(b'{"line":7}\n{"line":8}\n')
    assert lines_of(tmp_path) == [7, 8, 9]


def test_a_torn_line_longer_than_any_block_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"line":7}\n{"fill":"' + b"x" * 1_000_000)
    append_lines(path, [b'{"line":9}'])
    assert lines_of(tmp_path) == [7, 9]


# ------------------------------ rows ------------------------------


class Strange:
    """An object that JSON cannot represent."""


POISON: dict[str, dict[str, Any]] = {
    "an object as truth": {"ground_truth": Strange()},
    "a set as truth": {"ground_truth": {1, 2}},
    "a large number as truth": {"ground_truth": [2**80]},
    "half a character as question": {"question": "What is \ud800?"},
    "half a character as text": {"text": "It is \udfff."},
    "a key that is no text": {"ground_truth": {1: "one"}},
}


@pytest.mark.parametrize("poison", POISON)
def test_a_row_that_json_cannot_hold_is_written_as_text(
    tmp_path: Path, make: Callable[[int], Any], poison: str
) -> None:
    records, summary = make(1)
    records[1] = replace(records[1], **POISON[poison])
    with TraceWriter(tmp_path) as writer:
        writer.write_step(records, summary)
    step = read_step(tmp_path, 1)
    assert (len(step.records), step.defects) == (len(records), ())
    (field,) = POISON[poison]
    assert isinstance(getattr(step.records[1], field), str)


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r", "\r\n"])
def test_a_text_may_hold_any_line_end_of_unicode(tmp_path: Path, make: Callable[[int], Any], end: str) -> None:
    records, summary = make(1)
    records[0] = replace(records[0], text=f"one{end}two", question=f"one{end}two")
    with TraceWriter(tmp_path) as writer:
        writer.write_step(records, summary)
    step = read_step(tmp_path, 1)
    assert (step.records[0].text, step.defects) == (f"one{end}two", ())


@pytest.mark.parametrize(
    ("field", "value"),
    [("reward", None), ("response_ids", None), ("response_ids", ["a"]), ("prefix_len", "4"), ("tool_call_span", {}),
     ("tool_call_span", [1]), ("images", [7, None]), ("tool_calls", [{}]), ("uid", 5), ("started", None)],
)  # fmt: skip
def test_a_damaged_row_is_skipped_and_named(trace_dir: Path, field: str, value: Any) -> None:
    path = trace_dir / "step_000002.jsonl"
    lines = [orjson.loads(row) for row in path.read_bytes().split(b"\n")[:-1]]
    lines[3][field] = value
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in lines))
    assert len(read_step(trace_dir, 2).records) >= len(lines) - 1
    differences = audit(trace_dir).differences
    assert any(difference.check in ("files", "masks") for difference in differences)
    assert {difference.step for difference in differences} == {2}


def test_rows_without_their_tokens_are_the_same_rows(trace_dir: Path) -> None:
    for step in list_steps(trace_dir):
        whole, light = read_step(trace_dir, step), read_step(trace_dir, step, tokens=False)
        none: dict[str, Any] = {"response_ids": [], "response_mask": [], "logprobs": []}
        assert [replace(record, **none) for record in whole.records] == list(light.records)
        assert whole.records[0].response_ids


def test_a_policys_own_words_are_no_token_array(tmp_path: Path, make: Callable[[int], Any]) -> None:
    records, summary = make(1)
    text = 'I see ,"response_ids":[1, 2] and "logprobs": [3] here'
    records[0] = replace(records[0], text=text, question=text, ground_truth={"text": text})
    with TraceWriter(tmp_path) as writer:
        writer.write_step(records, summary)
    record: TrajectoryRecord = read_step(tmp_path, 1, tokens=False).records[0]
    assert (record.text, record.question, record.ground_truth) == (text, text, {"text": text})
