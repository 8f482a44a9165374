"""`speculate` and `streaming` in the synchronous trainer, on the real stack.

Seeds depend on the request and not on its time. So a step that speculates has the rows of the FAST run's step, which
waited for the barrier: settings, seed and weights are the same.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.conftest import FastRun, MainPpo
from verl_axpo.audit import audit
from verl_axpo.trace import StepSummary, TrajectoryRecord
from verl_axpo.trace.reader import read_step

LOGPROB_TOLERANCE = 1e-4  # nats: the engine's arithmetic depends on which requests share a batch
QUICK = ["--config-name", "tiny_rl", "trainer.val_before_train=false", "trainer.test_freq=-1"]


def audited_step(trace: Path, steps: int, step: int = 1) -> tuple[StepSummary, Sequence[TrajectoryRecord]]:
    result = audit(trace)
    assert (result.steps, result.differences) == (steps, ())
    read = read_step(trace, step)
    return read.summary, read.records


def by_key(records: Sequence[TrajectoryRecord]) -> dict[tuple[str, int], TrajectoryRecord]:
    return {(record.uid, record.session): record for record in records}


def early_continuations(records: Sequence[TrajectoryRecord]) -> int:
    """The continuations that began while a rollout of the step still ran, so before the barrier."""
    ended = max(record.finished for record in records if record.source_session is None)
    return sum(record.source_session is not None and record.started < ended for record in records)


def timeless(record: TrajectoryRecord) -> TrajectoryRecord:
    """The row without its times, and without fields that are equal only up to rounding."""
    calls = [replace(call, seconds=0.0) for call in record.tool_calls]
    measured = {"logprobs": (), "confidence": None, "entropy": None, "entropies": None}
    return replace(record, started=0.0, finished=0.0, tool_calls=calls, **measured)


def test_speculation_changes_no_row(fast_run: FastRun, main_ppo: MainPpo, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    main_ppo("speculate", *QUICK, "algorithm.axpo.speculate=true", f"algorithm.axpo.trace_dir={trace}")
    summary, speculated = audited_step(trace, steps=1)
    waited = read_step(fast_run.out / "trace", 1)
    assert early_continuations(waited.records) == 0
    assert early_continuations(speculated) > 0  # it did begin some before the barrier, and used them
    assert (summary.metrics["axpo/speculated_tokens_wasted"] or 0) > 0  # and it threw others away

    ours, theirs = by_key(speculated), by_key(waited.records)
    assert ours.keys() == theirs.keys()
    assert [candidate.session for candidate in summary.selected] == [c.session for c in waited.summary.selected]
    different = [key for key in ours if timeless(ours[key]) != timeless(theirs[key])]
    assert not different
    for key, record in ours.items():
        pairs = zip(record.logprobs, theirs[key].logprobs, strict=True)
        known = [(a, b) for a, b in pairs if a is not None and b is not None]
        assert all(a == pytest.approx(b, abs=LOGPROB_TOLERANCE) for a, b in known), key


@pytest.mark.slow
def test_streaming_waits_for_no_barrier_and_audits_clean(main_ppo: MainPpo, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    main_ppo("streaming", *QUICK, "algorithm.axpo.allocation=streaming", f"algorithm.axpo.trace_dir={trace}", steps=2)
    for step in (1, 2):
        summary, records = audited_step(trace, steps=2, step=step)
        assert len(summary.settled or ()) == len(summary.questions)
        assert 0 < len(summary.selected) <= summary.budget
        assert early_continuations(records) > 0
