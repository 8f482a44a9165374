"""What a report takes from a run's trace: steps -> restored subgroups, measured calls, one example in words."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from verl_axpo.core.types import Status
from verl_axpo.report.build import Figure, Section
from verl_axpo.report.table import Rows, Table
from verl_axpo.report.viewer import first_call
from verl_axpo.trace import TrajectoryRecord, iter_steps

MOST_CHARACTERS = 300  # of a question in the report
CALLS = pd.DataFrame({"confidence": [], "entropy": []}, dtype=float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """What one reading of a trace gives.

    Attributes:
        resampled: questions, over all steps.
        restored: those of them that a continuation answered.
        calls: confidence and entropy of the ordinary rollouts' first tool calls.
        example: the last source whose continuations restored its subgroup, and these; None without any.
    """

    folder: Path
    resampled: int
    restored: int
    calls: pd.DataFrame
    example: tuple[TrajectoryRecord, list[TrajectoryRecord]] | None


def read_trace(trace_dir: Path) -> Traced:
    """Read all steps once, without their tokens."""
    resampled = restored = 0
    calls: list[tuple[float, float]] = []
    example = None
    for question in (question for step in iter_steps(trace_dir, tokens=False) for question in step.questions()):
        resampled += bool(question.sources)
        restored += question.restored
        for record in question.rollouts:
            if record.recovery == 1:
                example = record, question.continuations(record.session)
            usable = record.status is not Status.INFRA_FAILURE
            if usable and record.confidence is not None and record.entropy is not None:
                calls.append((record.confidence, record.entropy))
    frame = pd.DataFrame(calls, columns=list(CALLS), dtype=float)
    return Traced(folder=trace_dir, resampled=resampled, restored=restored, calls=frame, example=example)


def example_section(trace: Traced) -> Section:
    """One restored subgroup in words: the failed call, its continuations, what they got, and the question's picture."""
    assert trace.example is not None
    source, continuations = trace.example
    named = {"source": source} | {f"continuation {k}": record for k, record in enumerate(continuations, 1)}
    rows: Rows = [
        {"trajectory": role, "first tool call": first_call(record)}
        | {"reward": record.reward, "advantage": record.advantage}
        for role, record in named.items()
    ]
    asked = f"Step {source.step}, answer {source.ground_truth}: {source.question[:MOST_CHARACTERS]}"
    content = _picture(trace.folder, source)
    picture = Figure(name="example", title="the question's picture", content=content, suffix=".png")
    return Section(
        title="One restored subgroup",
        note=" ".join(asked.split()),
        tables=[Table(name="example", rows=rows)],
        figures=[picture] if content else [],
    )


def _picture(trace_dir: Path, record: TrajectoryRecord) -> bytes:
    paths = [(trace_dir / image).resolve() for image in record.images]
    # A trace may come from somebody else: what a row names is copied into the report only from its own folder
    stored = [path for path in paths if path.is_file() and path.is_relative_to(trace_dir.resolve())]
    return stored[0].read_bytes() if stored else b""
