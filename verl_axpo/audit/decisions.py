"""The audit's rules on decisions: view of a step -> all that is not as `verl_axpo.core` decides on the same rewards."""

from collections import Counter
from collections.abc import Iterator, Sequence

from verl_axpo.audit.advantages import advantages
from verl_axpo.audit.view import Mismatch, View, close, where
from verl_axpo.core.budget import max_prefixes, ranked_order
from verl_axpo.core.metrics import complete
from verl_axpo.core.ranking import rank
from verl_axpo.core.step import recovery
from verl_axpo.core.streaming import replay
from verl_axpo.core.types import Candidate


def check_rows(view: View) -> Iterator[Mismatch]:
    """Every row belongs to the step and to one of its questions, once; at most N rollouts per question; none is lost.

    A question with fewer lost them to failed sessions, as the summary's count of rows shows.
    """
    summary = view.summary
    if summary.num_records != len(view.records):
        yield "files", f"{summary.num_records} trajectories", str(len(view.records))
    for (uid, session), times in Counter((record.uid, record.session) for record in view.records).items():
        if times > 1:
            yield f"{uid}/{session}", "one row", f"{times} rows"
    for record in view.records:
        if record.step != summary.step or record.uid not in summary.questions:
            yield where(record), f"a question of step {summary.step}", f"step {record.step}"
        if record.source_session is not None and record.session < summary.rollouts_per_question:
            yield where(record), f"a session from {summary.rollouts_per_question} on", str(record.session)
    for uid, group in view.groups.items():
        sessions = [rollout.session for rollout in group]
        if not set(sessions) <= set(range(summary.rollouts_per_question)):
            yield uid, f"rollouts 0 to {summary.rollouts_per_question - 1}", str(sessions)


def check_budget(view: View) -> Iterator[Mismatch]:
    """`floor(r * B * N / K)` prefixes, and no more than K times as many continuations.

    Where the account is that of a whole run, a step may use what earlier ones left: `check_allocation` sees to it.
    """
    summary = view.summary
    limit = max_prefixes(len(summary.questions), summary.rollouts_per_question, summary.config)
    if summary.budget != limit:
        yield "summary", f"{limit} prefixes", str(summary.budget)
    extra = sum(record.source_session is not None for record in view.records)
    if extra > limit * summary.config.num_continuations and not settles_at_once(view):
        yield "step", f"at most {limit * summary.config.num_continuations} continuations", str(extra)


def check_ranking(view: View) -> Iterator[Mismatch]:
    """Trigger and ranking: the candidates of the step, in order, with their scores."""
    yield from _unequal_lists(ranked_order(_ranked(view)), view.summary.candidates, "candidates")


def check_allocation(view: View) -> Iterator[Mismatch]:
    """Who got budget: breadth-first within it, or as the account was when the groups settled."""
    in_order = ranked_order(_ranked(view))
    if view.summary.config.allocation == "streaming":
        chosen, wrong = _streamed(view)
        yield from wrong
        expected = tuple(candidate for candidate in in_order if candidate in chosen)
    else:
        limit = max_prefixes(len(view.summary.questions), view.summary.rollouts_per_question, view.summary.config)
        expected = in_order[:limit]
        if view.summary.settled is not None:
            yield "summary", "no order of settling, for all groups share one budget", f"{len(view.summary.settled)}"
    yield from _unequal_lists(expected, view.summary.selected, "selected")


def _streamed(view: View) -> tuple[set[Candidate], list[Mismatch]]:
    """Who got budget as the groups settled, and where the account was another than the summary says."""
    summary, ranked = view.summary, _ranked(view)
    told = summary.settled or ()
    replayed, selected = replay(
        told,
        ranked,
        summary.config,
        questions=summary.questions,
        rollouts_per_question=summary.rollouts_per_question,
    )
    wrong: list[Mismatch] = [
        (f"{settlement.uid}, settled", str(expected), str(settlement))
        for settlement, expected in zip(told, replayed, strict=True)
        if settlement.order != expected.order or not close(settlement.account, expected.account)
    ]
    times = Counter(settlement.uid for settlement in told)
    wrong += [
        (uid, "settled once", f"{times[uid]} times")
        for uid in {**times, **ranked}
        if times[uid] != 1 or uid not in summary.questions
    ]
    wrong += [
        (f"{settlement.uid}, settled", "an account that can pay", str(settlement.account))
        for settlement in told
        if settlement.account < 0
    ]
    if len({settlement.reserve is None for settlement in told}) > 1:
        wrong.append(("summary", "all groups decided on at once, or none", "some"))
    return {candidate for candidates in selected.values() for candidate in candidates}, wrong


def settles_at_once(view: View) -> bool:
    """Whether the groups were decided on one by one, as in the asynchronous trainers."""
    return any(settlement.reserve is not None for settlement in view.summary.settled or ())


def check_resamples(view: View) -> Iterator[Mismatch]:
    """A selected source has K continuations or, where resampling failed, none; nothing else has any."""
    allocated = {(candidate.uid, candidate.session) for candidate in view.summary.selected}
    for key, record in view.at.items():
        rows, number = len(view.continuations.get(key, ())), view.summary.config.num_continuations
        if record.selected and key not in allocated:
            yield where(record), "not selected, as in the summary", "selected"
        if rows != (number if record.selected else 0):
            yield where(record), f"{number} continuations" if record.selected else "none (not selected)", str(rows)
    for uid, session in sorted(view.continuations.keys() - view.at.keys()):
        yield f"{uid}/{session}", "a source for its continuations", "no such row"


def check_recovery(view: View) -> Iterator[Mismatch]:
    """R of a selected source: whether any usable continuation is correct."""
    for key, record in view.at.items():
        continuations = (continuation.as_rollout() for continuation in view.continuations.get(key, ()))
        expected = recovery(continuations, view.summary.config) if record.selected else None
        if record.recovery != expected:
            yield where(record), str(expected), str(record.recovery)


def check_advantages(view: View) -> Iterator[Mismatch]:
    """Equations 2-4, every row."""
    expected = advantages(view.rollouts, view.summary.config, normalize_std=view.summary.normalize_std)
    for record, (advantage, tolerance) in zip(view.records, expected, strict=True):
        credited = record.selected and view.summary.config.credits_prefix
        if not abs(record.advantage - advantage) <= tolerance:
            yield where(record), f"{advantage:.7f}", f"{record.advantage:.7f}"
        if record.advantage_prefix != (record.advantage if credited else None):
            wanted = f"advantage_prefix {record.advantage if credited else None}"
            yield where(record), wanted, str(record.advantage_prefix)


def _ranked(view: View) -> dict[str, tuple[Candidate, ...]]:
    groups = complete(view.groups, view.summary.rollouts_per_question)
    return {uid: rank(group, view.summary.config) for uid, group in groups.items()}


def _unequal_lists(expected: Sequence[Candidate], traced: Sequence[Candidate], name: str) -> Iterator[Mismatch]:
    """What a list of candidates lacks, has too often, or has in another order or with another score."""
    wanted, times = {_name(candidate): candidate for candidate in expected}, Counter(map(_name, traced))
    for missing in sorted(wanted.keys() - times.keys()):
        yield missing, f"in the summary's list of {name}", "not there"
    for listed, number in times.items():
        if listed not in wanted or number > 1:
            yield listed, f"{int(listed in wanted)} times in the summary's list of {name}", f"{number} times"
    for candidate in traced:
        score = wanted.get(_name(candidate), candidate).score
        if not close(candidate.score, score):
            yield _name(candidate), f"score {score:.7f} in the list of {name}", f"{candidate.score:.7f}"
    if wanted.keys() == times.keys() and list(wanted) != list(times):
        yield "summary", f"{name} in the order {list(wanted)}", str(list(times))


def _name(candidate: Candidate) -> str:
    return f"{candidate.uid}/{candidate.session}"
