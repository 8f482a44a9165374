"""A whole trace, step by step, row by row: folder -> `Audit`, every difference and what is worth knowing."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from verl_axpo.audit import decisions, metrics, steps
from verl_axpo.audit.row import TracedRow, tokens_of, traced_row
from verl_axpo.audit.tags import Tags, tags_of
from verl_axpo.audit.tokens import ROW_CHECKS, RowView
from verl_axpo.audit.view import Check, Mismatch, View, view_of, where
from verl_axpo.core.types import Status
from verl_axpo.trace import StepSummary, TracedStep, TrajectoryRecord, iter_records, list_steps
from verl_axpo.trace.reader import lost_steps, read_summary, summary_path

CHECKS: tuple[Check, ...] = (
    decisions.check_rows,
    decisions.check_budget,
    decisions.check_ranking,
    decisions.check_allocation,
    decisions.check_resamples,
    steps.check_groups,
    steps.check_prefix,
    steps.check_copies,
    steps.check_thinking,
    steps.check_status,
    steps.check_times,
    steps.check_versions,
    decisions.check_recovery,
    decisions.check_advantages,
    metrics.check_metrics,
)
CLOCK_SKEW = 5.0  # seconds between the clocks of two nodes
# Share of a run's selected prefixes whose resampling may fail, and of a step's rollouts that may be lost: beyond it,
# what was trained is what happened to survive
MOST_FAILED = 0.5


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in a trace that is not as recomputed. `where` is a trajectory, `uid/session`, or a file."""

    step: int
    check: str
    where: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"step {self.step}, {self.where}, {self.check}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The result: what was looked at, what differs, and what is no difference but worth knowing."""

    steps: int
    trajectories: int
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Run:
    """The steps so far."""

    steps: int = 0
    trajectories: int = 0
    selected: int = 0
    resampled: int = 0
    finished: float = 0.0  # seconds: when the last row of the steps so far ended
    settings: dict[str, Any] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def audit(trace_dir: str | Path) -> Audit:
    """Recompute a whole trace.

    A last step without a summary is what a killed run leaves, and an earlier one that the resumed run named in
    `lost_steps.jsonl` cannot come back: notes, not differences.

    Raises:
        ValueError: `trace_dir` is no folder, or holds no step.
    """
    present = list_steps(trace_dir)
    if not present:
        raise ValueError(f"audit: {trace_dir} has no step_*.jsonl files; was algorithm.axpo.trace_dir set in that run?")
    run, lost = _Run(), lost_steps(trace_dir)
    for step in range(present[0], present[-1] + 1):
        complete = summary_path(trace_dir, step).exists()
        if not complete and step in lost:
            run.notes.append(f"step {step}: the run was killed before its trace was written; not audited")
        elif not complete and step == present[-1]:
            run.notes.append(f"step {step} has no summary: the run was killed in it; not audited")
        elif step not in present:
            run.differences.append(Difference(step, "files", "files", "a trace of every step", "none of this one"))
        else:
            _audit_files(Path(trace_dir), step, run)
    failed = run.selected - run.resampled
    if failed > MOST_FAILED * run.selected:
        rule = f"most of the {run.selected} selected prefixes resampled"
        run.differences.append(Difference(present[-1], "resamples", "run", rule, f"resampling failed for {failed}"))
    return Audit(
        steps=run.steps, trajectories=run.trajectories, differences=tuple(run.differences), notes=tuple(run.notes)
    )


def audit_step(step: TracedStep) -> list[Difference]:
    """Every difference of one step that is in memory; its images are left out."""
    return _differences(step.step, step.summary, lambda defects: iter(step.records), list(step.defects))[0]


def _audit_files(trace_dir: Path, step: int, run: _Run) -> None:
    summary, defects = read_summary(trace_dir, step)
    differences, view = _differences(step, summary, partial(iter_records, trace_dir, step), defects)
    run.steps += 1
    run.differences += differences
    if view is None:
        return
    run.trajectories += len(view.rows)
    run.differences += _missing_images(view, trace_dir)
    run.selected += len(view.summary.selected)
    run.resampled += sum(record.selected for record in view.records)
    run.differences += [*_overlap(view, run), *_lost_rollouts(view)]
    run.notes += [*_failed_sessions(view), *_failed_resamples(view), *_other_settings(view, run.settings)]


def _differences(
    step: int,
    summary: StepSummary | None,
    rows: Callable[[list[str]], Iterator[TrajectoryRecord]],
    defects: list[str],
) -> tuple[list[Difference], View | None]:
    """The step's differences, and its view if all of it can be read: else all rules would tell what the files lack.

    Args:
        rows: reads the rows and adds what cannot be read to the list that it is given.
        defects: of the files, as far as they have been read.
    """
    unreadable = [("files", "a summary", "none that can be read")] if summary is None else []
    if summary is None or summary.step != step:
        other = [("summary", f"step {step} as in the file's name", f"step {summary.step}")] if summary else []
        wrong = [*(("files", "whole files", defect) for defect in defects), *unreadable, *other]
        return [Difference(step, "files", *mismatch) for mismatch in wrong], None
    try:
        tags = tags_of(summary.tags, rows([]), summary.call_syntax)
    except ValueError as error:
        return [Difference(step, "files", "summary", "a call syntax that is installed", str(error))], None
    looked_at = [_look_at(record, summary, tags) for record in rows(defects)]
    differences = [
        *(Difference(step, "files", "files", "whole files", defect) for defect in defects),
        *(Difference(step, name, *mismatch) for _, wrong in looked_at for name, mismatch in wrong),
    ]
    kept = [row for row, _ in looked_at if row is not None]
    if defects or len(kept) < len(looked_at):
        return differences, None
    view = view_of(kept, summary, tags)
    for check in CHECKS:
        mismatches = _guarded(partial(check, view), "step")
        differences += [Difference(step, _name(check), *mismatch) for mismatch in mismatches]
    return differences, view


def _look_at(
    record: TrajectoryRecord, summary: StepSummary, tags: Tags
) -> tuple[TracedRow | None, list[tuple[str, Mismatch]]]:
    """What the step needs of a row, None if its tokens cannot be looked at, and what is wrong with the row alone."""
    try:
        tokens = tokens_of(record)
    except (ValueError, TypeError, OverflowError) as error:
        return None, [("masks", (where(record), "a mask value and a log-prob for each token", str(error)))]
    row = RowView(record=record, tokens=tokens, summary=summary, tags=tags)
    wrong = [
        (_name(check), mismatch) for check in ROW_CHECKS for mismatch in _guarded(partial(check, row), where(record))
    ]
    return traced_row(record, tokens, tags, summary.config), wrong


def _guarded(check: Callable[[], Iterator[Mismatch]], place: str) -> list[Mismatch]:
    """What a check finds; where what it needs is not there, that."""
    try:
        return list(check())
    except (ValueError, KeyError, TypeError, IndexError) as error:
        return [(place, "all that the recomputation needs", f"{type(error).__name__}: {error}")]


def _name(check: Callable[..., Any]) -> str:
    return check.__name__.removeprefix("check_")


def _missing_images(view: View, trace_dir: Path) -> Iterator[Difference]:
    stored = {image for record in view.records for image in record.images}
    for image in sorted(image for image in stored if not (trace_dir / image).is_file()):
        yield Difference(view.summary.step, "files", image, "the stored image", "no such file")


def _overlap(view: View, run: _Run) -> Iterator[Difference]:
    """A step of the synchronous trainer rolls out after the step before was trained."""
    if decisions.settles_at_once(view):
        return
    started = min((record.started for record in view.records if record.started), default=run.finished)
    if started < run.finished - CLOCK_SKEW:
        rule = f"rollouts after those of the step before, which ended at {run.finished}"
        yield Difference(view.summary.step, "times", "step", rule, f"a start at {started}")
    run.finished = max((record.finished for record in view.records), default=0.0)


def _lost_rollouts(view: View) -> Iterator[Difference]:
    """Rollouts of failed sessions and infra failures are no difference each, but most of a step is."""
    planned = len(view.summary.questions) * view.summary.rollouts_per_question
    usable = sum(record.source_session is None and record.status is not Status.INFRA_FAILURE for record in view.records)
    if planned - usable > MOST_FAILED * planned:
        rule = f"most of the step's {planned} rollouts"
        yield Difference(view.summary.step, "rows", "step", rule, f"{usable} that did not fail")


def _failed_sessions(view: View) -> Iterator[str]:
    there = Counter(record.uid for record in view.records if record.source_session is None)
    for uid in view.summary.questions:
        if there[uid] < view.summary.rollouts_per_question:
            rollouts = f"{there[uid]} of {view.summary.rollouts_per_question} rollouts"
            yield f"step {view.summary.step}, {uid}: {rollouts}, the other sessions failed; nothing of it is resampled"


def _failed_resamples(view: View) -> Iterator[str]:
    selected = {(candidate.uid, candidate.session) for candidate in view.summary.selected}
    failed = selected - {(record.uid, record.session) for record in view.records if record.selected}
    for uid, session in sorted(failed):
        place = f"step {view.summary.step}, {uid}/{session}"
        yield f"{place}: selected, but its resampling failed; its group is GRPO's"


def _other_settings(view: View, earlier: dict[str, Any]) -> Iterator[str]:
    """Settings that differ from the step before: a resumed run may change them, by hand or by mistake."""
    summary = view.summary
    settings = asdict(summary.config) | {
        "rollouts_per_question": summary.rollouts_per_question,
        "normalize_std": summary.normalize_std,
        "questions in a step": len(summary.questions),
        "tags": summary.tags,
        "call syntax": summary.call_syntax,
    }
    for name, value in settings.items():
        if name in earlier and earlier[name] != value:
            yield f"step {summary.step}: {name} is {value} from here on, it was {earlier[name]}"
    earlier.update(settings)
