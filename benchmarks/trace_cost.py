"""What a trace costs the trainer: packed rows of a step, as workers send them -> records -> writer -> one file.

The step is held up while its rows are unpacked and made into records and while `write_step` queues them; the writer's
thread then needs its seconds beside the update. Not in it: the trainer's reading of the rows and of their entropies
from the TransferQueue. Run: python benchmarks/trace_cost.py [--rows 320] [--tokens 8192] [--repeats 5].
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Rollout, Row, Status
from verl_axpo.integration.coordinator import Decisions
from verl_axpo.integration.lineage import BatchRow, Episode, Transcript
from verl_axpo.integration.records import StepData, step_summary, trajectory_records
from verl_axpo.trace import StepSummary, ToolCall, TraceWriter, TrajectoryRecord

ROLLOUTS = 8  # N of the paper
WORDS = "Let me look at the upper left corner of the picture. "
CHARACTERS = 4  # per token, about as in English text
TOOL_SHARE = 0.1  # of the response's tokens: what tools answered, without a log-prob
CALL = ToolCall(name="image_zoom_in", arguments={"bbox_2d": [0, 0, 500, 500], "label": "corner"}, ok=True, seconds=0.1)


def packed_row(at: int, tokens: int, rng: np.random.Generator) -> bytes:
    """A row with two tool calls."""
    uid, session = f"q{at // ROLLOUTS}", at % ROLLOUTS
    mask = (rng.random(tokens) >= TOOL_SHARE).astype(np.int8)
    episode = Episode(
        request_id=uid, status=Status.OK, prefix_len=100, tool_call_span=(100, 160), prefix_images=1, confidence=0.8,
        tool_calls=(CALL, CALL), num_generated=tokens, prompt_tokens=500, cached_tokens=400, started=0.0, finished=9.0,
    )  # fmt: skip
    transcript = Transcript(
        question="What does the sign in the corner say?", ground_truth="stop", images=("images/0.png",), prompt_len=500,
        response_ids=rng.integers(0, 151_000, tokens, dtype=np.int32), policy_mask=mask, trained_mask=mask,
        logprobs=-rng.exponential(0.3, tokens).astype(np.float32), num_turns=6,
        text=WORDS * (CHARACTERS * tokens // len(WORDS)),
    )  # fmt: skip
    row, rollout = Row(uid=uid, session=session, reward=1.0), Rollout(session=session, reward=1.0, uses_tool=True)
    return BatchRow(row=row, rollout=rollout, episode=episode, grpo_tokens=tokens, transcript=transcript).pack()


def traced(packed: Sequence[bytes], tokens: int, step: int) -> tuple[list[TrajectoryRecord], StepSummary]:
    """The step as the trainer hands it over (`AxpoTrainer._report`)."""
    rows = [BatchRow.unpack(one) for one in packed]
    data = StepData(
        step=step, config=AxpoConfig(), questions=list(dict.fromkeys(one.row.uid for one in rows)), rows=rows,
        rollouts_per_question=ROLLOUTS, advantages=[0.5] * len(rows), decisions=Decisions(ranked={}, selected={}),
        normalize_std=True, entropies=[torch.zeros(tokens)] * len(rows),
    )  # fmt: skip
    return trajectory_records(data), step_summary(data, {})


def now() -> tuple[float, float]:
    """Wall time and the process' CPU time: on a machine with other work the second is the steadier."""
    return time.perf_counter(), time.process_time()


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
        for step in range(options.repeats + 1):
            clock = [now()]
            records, summary = traced(packed, options.tokens, step)
            clock.append(now())
            trace.write_step(records, summary)
            clock.append(now())
            trace.flush()
            times.append(np.diff([*clock, now()], axis=0))
        size = max(path.stat().st_size for path in Path(folder).glob("*.jsonl"))
    made, queued, written = np.median(times[1:], axis=0)  # the first warms up
    print(f"{options.rows} rows x {options.tokens} tokens, {size / 1e6:.0f} MB; medians of {options.repeats} steps")
    for name, (wall, cpu) in {"records made": made, "write_step": queued, "writer's thread": written}.items():
        print(f"  {name}: {wall:.4f} s, {cpu:.4f} s of CPU")
    held, thread = made + queued, written
    print(f"held up / thread = {held[0] / thread[0]:.2f} (CPU {held[1] / thread[1]:.2f}),", end=" ")
    print(f"{options.rows / thread[0]:.0f} rows a second in the thread (CPU {options.rows / thread[1]:.0f})")


if __name__ == "__main__":
    main()
