"""What a run leaves for checks and plots: trajectories and decisions of a step -> files -> read back.

    records.py  a trajectory, a step's decisions, and their JSON
    writer.py   trainer -> `step_000007.jsonl`, `step_000007.summary.json` (in the background); workers -> `images/`
    metrics.py  tool calls and tokens of a step's rows -> the metrics that follow from them
    reader.py   files -> `TracedStep`, with whatever a killed run left torn named, never hidden

The formats are documented in `docs/trace.md`. Nothing here imports verl.
"""

from verl_axpo.image_store import store_image
from verl_axpo.trace.reader import TracedQuestion, TracedStep, iter_records, iter_steps, list_steps, read_step
from verl_axpo.trace.records import StepSummary, ToolCall, TrajectoryRecord
from verl_axpo.trace.writer import TraceWriter

__all__ = [
    "StepSummary",
    "ToolCall",
    "TraceWriter",
    "TracedQuestion",
    "TracedStep",
    "TrajectoryRecord",
    "iter_records",
    "iter_steps",
    "list_steps",
    "read_step",
    "store_image",
]
