"""The cost of a trace for the trainer and for its readers: packed rows of a step -> records -> file -> audit, report.

The trainer waits while the rows of a step are unpacked and made into records and while `write_step` queues them; the
writer's thread then works next to the update. The time to fetch rows and entropies from the TransferQueue is not
measured. Each reader has its own process and reads one step; its memory is the peak of the process.

    python benchmarks/trace_cost.py [--rows 320] [--tokens 8192] [--repeats 5]
    python benchmarks/trace_cost.py --rows 2500 --repeats 1       a step of the paper's size
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from verl_axpo.core.config import AxpoConfig
from verl_axpo.integration.batch_row import BatchRow
from verl_axpo.integration.coordinator import Decisions
from verl_axpo.integration.step_report import batch_metrics, finished_records, step_summary
from verl_axpo.trace import StepSummary, ToolCall, TraceWriter, TrajectoryRecord

ROLLOUTS = 8  # N of the paper
WORDS = "Let me look at the upper left corner of the picture. "
CHARACTERS = 4  # per token, about as in English text
TOOL_SHARE = 0.1  # of the response's tokens: what two tools answered, without a log-prob
TAGS = {"<tool_call>": 151_657, "</tool_call>": 151_658, "<think>": 151_667, "</think>": 151_668}
PREFIX, SPAN_END = 100, 160  # tokens: the first call
READERS = {
    "audit": "from verl_axpo.audit import audit; print(f'{len(audit(FOLDER).differences)} differences', end=', ')",
    "all rows without tokens": (
        "from verl_axpo.trace import iter_records; "
        "print(sum(1 for _ in iter_records(FOLDER, 1, [], tokens=False)), 'rows', end=', ')"
    ),
}
# Of the process itself: `ru_maxrss` begins with what the parent had
PEAK = (
    "; import time; print(f'{time.process_time():.1f} s of CPU', end=', ')"
    "; print(*[line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line], 'kB')"
)
CALL = ToolCall(name="image_zoom_in", arguments={"bbox_2d": [0, 0, 500, 500], "label": "corner"}, ok=True, seconds=0.1)


def packed_row(at: int, tokens: int, rng: np.random.Generator) -> bytes:
    """A right answer after two tool calls, as the audit expects it."""
    uid, session = f"q{at // ROLLOUTS}", at % ROLLOUTS
    answered = int(TOOL_SHARE * tokens / 2)
    turns = (SPAN_END, (tokens - SPAN_END) // 2 - answered, tokens - SPAN_END - (tokens - SPAN_END) // 2 - answered)
    mask = np.concatenate([
        np.ones(turns[0]), np.zeros(answered), np.ones(turns[1]), np.zeros(answered), np.ones(turns[2])
    ]).astype(np.int8)  # fmt: skip
    ids = rng.integers(0, 151_000, tokens, dtype=np.int32)
    ids[PREFIX - 1], ids[SPAN_END - 1] = TAGS["<tool_call>"], TAGS["</tool_call>"]
    logprobs = -rng.exponential(0.3, tokens).astype(np.float32)
    record = TrajectoryRecord(
        step=1, uid=uid, session=session, question="What does the sign in the corner say?", ground_truth="stop",
        prompt_len=500, response_ids=ids, response_mask=mask, text=WORDS * (CHARACTERS * tokens // len(WORDS)),
        logprobs=np.where(mask == 1, logprobs, np.nan).astype(np.float32), tool_calls=(CALL, CALL), prefix_len=PREFIX,
        tool_call_span=(PREFIX, SPAN_END), reward=1.0, advantage=0.0, num_turns=6, started=1.0, finished=9.0,
        confidence=float(np.exp(logprobs[PREFIX:SPAN_END].astype(np.float64)).mean()), turn_lengths=turns,
    )  # fmt: skip
    return BatchRow(
        rollout=record.as_rollout(), selected=False, grpo_tokens=tokens, response_len=tokens, generated=int(mask.sum()),
        prompt_tokens=500, cached_tokens=400, tool_calls=(CALL, CALL), record=record,
    ).pack()  # fmt: skip


def traced(packed: Sequence[bytes], tokens: int, step: int) -> tuple[list[TrajectoryRecord], StepSummary]:
    """The step as the trainer hands it over (`AxpoTrainer._write_trace`)."""
    rows, config = [BatchRow.unpack(row) for row in packed], AxpoConfig()
    questions = list(dict.fromkeys(row.rollout.uid for row in rows))
    entropies = [torch.distributions.Exponential(2.0).sample((tokens,))] * len(rows)
    records = finished_records(rows, [0.0] * len(rows), entropies, config, step=step, questions=questions)
    metrics = batch_metrics(rows, config, questions=questions, rollouts_per_question=ROLLOUTS)
    return records, step_summary(
        step, config, Decisions(ranked={}, selected={}), metrics,
        questions=questions, rollouts_per_question=ROLLOUTS, normalize_std=True, tags=TAGS,
    )  # fmt: skip


def now() -> tuple[float, float]:
    """Wall time and the process' CPU time: on a machine with other work the second is the steadier."""
    return time.perf_counter(), time.process_time()


def read(name: str, folder: str) -> None:
    """One reader of step 1 in a process of its own."""
    started = time.perf_counter()
    code = f"FOLDER = {folder!r}; " + READERS[name] + PEAK
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    print(f"  {name}: {time.perf_counter() - started:.1f} s, {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=320)
    parser.add_argument("--tokens", type=int, default=8_192)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    packed = [packed_row(at, options.tokens, rng) for at in range(options.rows)]
    times = []
    with tempfile.TemporaryDirectory() as folder, TraceWriter(folder) as trace:
        for _ in range(options.repeats + 1):  # the same step again: the audit is of one
            clock = [now()]
            records, summary = traced(packed, options.tokens, step=1)
            clock.append(now())
            trace.write_step(records, summary)
            clock.append(now())
            trace.flush()
            times.append(np.diff([*clock, now()], axis=0))
        size = (Path(folder) / "step_000001.jsonl").stat().st_size
        made, queued, written = np.median(times[1:], axis=0)  # the first warms up
        print(f"{options.rows} rows x {options.tokens} tokens, {size / 1e6:.0f} MB; medians of {options.repeats} steps")
        for name, (wall, cpu) in {"records made": made, "write_step": queued, "writer's thread": written}.items():
            print(f"  {name}: {wall:.4f} s, {cpu:.4f} s of CPU")
        held, thread = made + queued, written
        print(f"held up / thread = {held[0] / thread[0]:.2f} (CPU {held[1] / thread[1]:.2f}),", end=" ")
        print(f"{options.rows / thread[0]:.0f} rows a second in the thread (CPU {options.rows / thread[1]:.0f})")
        for name in READERS:
            read(name, folder)


if __name__ == "__main__":
    main()
