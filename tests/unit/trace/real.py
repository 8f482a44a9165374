"""A real trace for the mutation tests: two steps of the tiny recipe, and what follows from a change in them.

`real_trace.tar.gz` is the trace of 320 trajectories, 64 of them resampled, that the tiny recipe leaves. Make it anew
when the format gains a field:

    FAST=1 EVALUATE=0 bash recipes/run_tiny_axpo.sh
    tar -C outputs/tiny_axpo_fast -czf tests/unit/trace/real_trace.tar.gz trace
"""

import math
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from verl_axpo.audit import Difference, audit_step
from verl_axpo.audit.metrics import NOT_IN_THE_TRACE, recomputed
from verl_axpo.audit.row import tokens_of, traced_row
from verl_axpo.audit.tags import tags_of
from verl_axpo.audit.view import view_of
from verl_axpo.core.advantage import row_advantages
from verl_axpo.core.budget import max_prefixes, ranked_order
from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.metrics import complete
from verl_axpo.core.ranking import rank
from verl_axpo.core.step import recovery
from verl_axpo.core.types import groups_of
from verl_axpo.trace import StepSummary, TracedStep, TrajectoryRecord

ARCHIVE = Path(__file__).with_name("real_trace.tar.gz")

Line = dict[str, Any]


def unpack(folder: Path) -> Path:
    """The real trace's folder in `folder`."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder)  # our own archive; Debian 12's Python 3.11.2 has no `filter`
    return folder / "trace"


@dataclass
class Step:
    """The lines and the summary of a step, as JSON has them, to be changed."""

    lines: list[Line]
    summary: Line

    @classmethod
    def read(cls, trace: Path, step: int) -> "Step":
        lines = (trace / f"step_{step:06d}.jsonl").read_bytes().split(b"\n")
        summary = orjson.loads((trace / f"step_{step:06d}.summary.json").read_bytes())
        return cls(lines=[orjson.loads(line) for line in lines if line], summary=summary)

    def write(self, trace: Path) -> None:
        name = f"step_{self.summary['step']:06d}"
        (trace / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in self.lines))
        (trace / f"{name}.summary.json").write_bytes(orjson.dumps(self.summary))

    def copy(self) -> "Step":
        return Step(lines=[orjson.loads(orjson.dumps(line)) for line in self.lines], summary=_copy(self.summary))

    def pick(self, wanted: Callable[[Line], bool]) -> Line:
        return next(line for line in self.lines if wanted(line))

    def traced(self) -> TracedStep:
        """As the reader gives it: a line that it refuses is a defect."""
        records, defects, summary = [], [], None
        for line in self.lines:
            try:
                records.append(TrajectoryRecord.from_json(orjson.dumps(line)))
            except (ValueError, TypeError) as error:
                defects.append(str(error))
        try:
            summary = StepSummary.from_json(orjson.dumps(self.summary))
        except (ValueError, TypeError) as error:
            defects.append(str(error))
        return TracedStep(step=1, records=tuple(records), summary=summary, complete=True, defects=tuple(defects))

    def differences(self) -> list[Difference]:
        return audit_step(self.traced())


def _copy(values: Line) -> Line:
    copied: Line = orjson.loads(orjson.dumps(values))
    return copied


def follow(step: Step) -> None:
    """Make everything that a step computes from its rows agree with them again, as a run with that fault would have."""
    config = AxpoConfig.from_mapping(step.summary["config"])
    for line in step.lines:
        span = line["tool_call_span"]
        told = [value for value in line["logprobs"][slice(*span)] if value is not None] if span else []
        if line["confidence"] is not None and told:
            line["confidence"] = math.fsum(map(math.exp, told)) / len(told)
        trained = _trained(line, config)
        line["response_mask"] = [int(value is not None and at in trained) for at, value in enumerate(line["logprobs"])]
    _decide(step, config)
    _learn(step, config)
    _measure(step)


def _trained(line: Line, config: AxpoConfig) -> range:
    length, prefix = len(line["response_ids"]), line["prefix_len"] or 0
    if line["status"] == "infra_failure":
        return range(0)
    if line["kind"] == "resample":
        return range(prefix, length)
    return range(prefix) if line["selected"] else range(length)


def _decide(step: Step, config: AxpoConfig) -> None:
    number = step.summary["rollouts_per_question"]
    records = [TrajectoryRecord.from_json(orjson.dumps(line)) for line in step.lines]
    groups = groups_of((record.as_rollout() for record in records), step.summary["questions"])
    ranked = {uid: rank(group, config) for uid, group in complete(groups, number).items()}
    limit = max_prefixes(len(groups), number, config)
    order = ranked_order(ranked)
    listed = [{"uid": c.uid, "session": c.session, "score": c.score} for c in order]
    step.summary |= {
        "budget": limit,
        "candidates": listed,
        "selected": listed[:limit],
        "num_records": len(step.lines),
    }


def _learn(step: Step, config: AxpoConfig) -> None:
    rows = [TrajectoryRecord.from_json(orjson.dumps(line)).as_rollout() for line in step.lines]
    advantages = row_advantages(rows, config, normalize_std=step.summary["normalize_std"]).tolist()
    for line, row, advantage in zip(step.lines, rows, advantages, strict=True):
        own = [other for other in rows if (other.uid, other.source) == (row.uid, row.session)]
        line["advantage"] = advantage
        line["recovery"] = recovery(own, config) if line["selected"] else None
        line["advantage_prefix"] = advantage if line["selected"] and config.credits_prefix else None


def _measure(step: Step) -> None:
    summary = StepSummary.from_json(orjson.dumps(step.summary))
    records = [TrajectoryRecord.from_json(orjson.dumps(line)) for line in step.lines]
    tags = tags_of(summary.tags, records)
    rows = [traced_row(record, tokens_of(record), tags, summary.config) for record in records]
    kept = {name: value for name, value in summary.metrics.items() if name in NOT_IN_THE_TRACE}
    step.summary["metrics"] = kept | recomputed(view_of(rows, summary, tags))
