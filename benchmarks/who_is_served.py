"""Whom `streaming` serves in place of `exact`, on one trace: rollouts of a step -> both allocations -> what they share.

The groups settle in the order in which the trace's rollouts finished. Both allocations are those of `verl_axpo.core`,
with the same candidates and the same budget; nothing is sampled.

    python benchmarks/who_is_served.py TRACE [--budget 0.25 0.12 0.06]       the trace of a synchronous run
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from verl_axpo.core.budget import allocate, max_prefixes
from verl_axpo.core.metrics import complete
from verl_axpo.core.ranking import rank
from verl_axpo.core.streaming import TokenBucket
from verl_axpo.core.types import Candidate, groups_of
from verl_axpo.trace import StepSummary, TracedStep, iter_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A step: its triggered questions, and the prefixes of `exact`, of `streaming`, and of both."""

    triggered: int
    exact: int
    streaming: int
    shared: int


def served(step: TracedStep, summary: StepSummary, budget: float) -> Served:
    """Both allocations of a step, at this budget."""
    config, rollouts = replace(summary.config, budget=budget), summary.rollouts_per_question
    groups = groups_of([record.as_rollout() for record in step.records], summary.questions)
    ranked = {uid: rank(group, config) for uid, group in complete(groups, rollouts).items()}
    exact = _flat(allocate(ranked, max_prefixes(len(summary.questions), rollouts, config)))
    bucket = TokenBucket(config, rollouts)
    for at, uid in enumerate(_settling(step, list(ranked))):
        bucket.settle(uid, ranked[uid], len(summary.questions) - at - 1)
    bucket.close(summary.questions)
    streaming = _flat(bucket.selected)
    triggered = sum(bool(candidates) for candidates in ranked.values())
    return Served(triggered=triggered, exact=len(exact), streaming=len(streaming), shared=len(exact & streaming))


def _flat(selected: dict[str, tuple[Candidate, ...]]) -> set[Candidate]:
    return {candidate for candidates in selected.values() for candidate in candidates}


def _settling(step: TracedStep, questions: Sequence[str]) -> list[str]:
    """The questions, in the order in which the last rollout of each finished."""
    last = dict.fromkeys(questions, 0.0)
    for record in step.records:
        if record.source_session is None and record.uid in last:
            last[record.uid] = max(last[record.uid], record.finished)
    return sorted(last, key=lambda uid: last[uid])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--budget", type=float, nargs="+", default=[0.25, 0.12, 0.06])
    options = parser.parse_args()
    steps = [(step, step.summary) for step in iter_steps(options.trace, tokens=False) if step.summary]
    print(f"{len(steps)} steps; sums over them")
    print("| budget | triggered questions | prefixes, `exact` | prefixes, `streaming` | of both | both, % of `exact` |")
    print("|---|---|---|---|---|---|")
    for budget in options.budget:
        found = [served(step, summary, budget) for step, summary in steps]
        names = ("triggered", "exact", "streaming", "shared")
        triggered, exact, streaming, shared = (sum(getattr(each, name) for each in found) for name in names)
        share = f"{100 * shared / exact:.0f}" if exact else "-"
        print(f"| {budget} | {triggered} | {exact} | {streaming} | {shared} | {share} |")


if __name__ == "__main__":
    main()
