"""Is a trace what AXPO would have done? Trace -> recomputed from its rewards and tokens alone -> every difference.

Looked at are files, groups, budget, ranking and allocation, resampled rows, prefixes, masks, confidence, recovery,
advantages and metrics (`decisions.py`, `tokens.py`, `metrics.py`). `verl-axpo audit DIR` prints the result and
fails on any difference.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from verl_axpo.audit import decisions, metrics, tokens
from verl_axpo.audit.view import Check, view_of
from verl_axpo.core.types import Kind
from verl_axpo.trace import TracedStep, iter_steps, list_steps

CHECKS: tuple[Check, ...] = (
    decisions.check_rows,
    decisions.check_budget,
    decisions.check_ranking,
    decisions.check_allocation,
    decisions.check_resamples,
    tokens.check_prefix,
    tokens.check_masks,
    tokens.check_confidence,
    decisions.check_recovery,
    decisions.check_advantages,
    metrics.check_metrics,
)


@dataclass(frozen=True, slots=True, kw_only=True)
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


def audit(trace_dir: str | Path) -> Audit:
    """Recompute a whole trace.

    A last step without a summary is what a killed run leaves: a note, not a difference.

    Raises:
        ValueError: `trace_dir` is no folder, or holds no step.
    """
    present = list_steps(trace_dir)
    if not present:
        raise ValueError(f"audit: got {trace_dir}, expected step_*.jsonl files in it; was trace_dir set in that run?")
    steps, trajectories, notes = 0, 0, list[str]()
    differences = [
        Difference(step=gap, check="files", where="files", expected="a trace of every step", found="none of this one")
        for gap in range(present[0], present[-1])
        if gap not in present
    ]
    for step in iter_steps(trace_dir):
        if step.step == present[-1] and not step.complete:
            notes.append(f"step {step.step} has no summary: the run was killed in it; not audited")
            continue
        steps, trajectories = steps + 1, trajectories + len(step.records)
        differences += audit_step(step)
        differences += _missing_images(step, Path(trace_dir))
        notes += _failed_sessions(step)
        notes += _failed_resamples(step)
    return Audit(steps=steps, trajectories=trajectories, differences=tuple(differences), notes=tuple(notes))


def audit_step(step: TracedStep) -> list[Difference]:
    """Every difference of one step; its images are left out."""
    difference = partial(Difference, step=step.step)
    differences = [difference(check="files", where="files", expected="whole files", found=one) for one in step.defects]
    if step.summary is None:
        return [*differences, difference(check="files", where="files", expected="a summary", found="none")]
    view = view_of(step, step.summary)
    for check in CHECKS:
        name = check.__name__.removeprefix("check_")
        try:
            found = list(check(view))
        except (ValueError, KeyError) as error:  # what the rules need is not there: the check cannot be made
            found = [("step", "all that the recomputation needs", str(error))]
        differences += [difference(check=name, where=one[0], expected=one[1], found=one[2]) for one in found]
    return differences


def _missing_images(step: TracedStep, trace_dir: Path) -> Iterator[Difference]:
    stored = {image for record in step.records for image in record.images}
    for image in sorted(one for one in stored if not (trace_dir / one).is_file()):
        yield Difference(step=step.step, check="files", where=image, expected="the stored image", found="no such file")


def _failed_sessions(step: TracedStep) -> Iterator[str]:
    if step.summary is None:
        return
    found = Counter(one.uid for one in step.records if one.kind is Kind.ROLLOUT)
    for uid in step.summary.questions:
        if found[uid] < step.summary.rollouts_per_question:
            rollouts = f"{found[uid]} of {step.summary.rollouts_per_question} rollouts"
            yield f"step {step.step}, {uid}: {rollouts}, the other sessions failed; nothing of it is resampled"


def _failed_resamples(step: TracedStep) -> Iterator[str]:
    selected = {(one.uid, one.session) for one in step.summary.selected} if step.summary else set()
    failed = selected - {(one.uid, one.session) for one in step.records if one.selected}
    for uid, session in sorted(failed):
        yield f"step {step.step}, {uid}/{session}: selected, but its resampling failed; its group is GRPO's"
