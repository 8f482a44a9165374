"""The audit's rules on the rows of a step next to each other: what a group shares, what a continuation may not share.

A row alone cannot show where its first call opens (that depends on whether the prompt leaves the thinking open), which
length the limit is, or that its question, its times and its tokens are its own.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence

from verl_axpo.audit.row import TracedRow
from verl_axpo.audit.tags import AGREEMENT
from verl_axpo.audit.view import Mismatch, View, where
from verl_axpo.core.types import Status
from verl_axpo.trace import TrajectoryRecord
from verl_axpo.trace.reader import questions_of

CLOCK_TOLERANCE = 1.0  # seconds by which the system's clock may be set back while a call runs
ENOUGH_ROWS = 20  # with AGREEMENT: by chance as many rows agree on the wrong beginning in 2 of 10,000 steps
CHANCE = -13.8  # ln(1e-6): below it a continuation does not repeat all tokens and log-probs of another row by chance


def check_prefix(view: View) -> Iterator[Mismatch]:
    """The prefix ends where the first call opens; prompt and prefix are one for a source and its continuations."""
    yield from _openings(view)
    if view.summary.config.prefix == "fixed":
        for key in view.continuations.keys() & view.rows_at.keys():
            for record in view.continuations[key]:
                yield from _shared(view.rows_at[key], view.rows_at[record.uid, record.session])


def _openings(view: View) -> Iterator[Mismatch]:
    """The first opening tag outside thinking; a row without one has no call, and no prefix."""
    thinking = _starts_in_think(view)
    if view.tags.open is None or thinking is None:
        return
    for row in view.rows:
        at = row.call_at[thinking]
        expected = None if at is None else at + 1
        if row.record.prefix_len != expected:
            yield where(row.record), f"prefix_len {expected}, where the first call opens", str(row.record.prefix_len)


def check_status(view: View) -> Iterator[Mismatch]:
    """Truncated is what ends with a call that nothing answers, or is as long as the limit; nothing else is."""
    thinking = _starts_in_think(view)
    if view.tags.open is None or thinking is None:
        return
    judged = [row for row in view.rows if row.record.status is not Status.INFRA_FAILURE]
    cut = {row.length for row in judged if row.record.status is Status.TRUNCATED and not row.unanswered[thinking]}
    limit = max((row.length for row in judged), default=0)
    for row in judged:
        truncated = row.unanswered[thinking] or (row.length == limit and limit in cut)
        if truncated != (row.record.status is Status.TRUNCATED):
            yield where(row.record), Status.TRUNCATED.value if truncated else Status.OK.value, row.record.status.value


def _starts_in_think(view: View) -> bool | None:
    """Whether the prompts leave the thinking open: the summary says so, or in older traces the rows do, for then a
    response's first tag of thinking closes it.

    False where no row has such a tag but some have a call, None where nothing tells.
    """
    if view.summary.starts_in_think is not None:
        return view.summary.starts_in_think
    if shown := _shown_thinking(view):
        return shown.most_common(1)[0][0]
    return False if any(row.record.prefix_len is not None for row in view.rows) else None


def _shown_thinking(view: View) -> Counter[bool]:
    return Counter(row.opens_in_think for row in view.rows if row.opens_in_think is not None)


def check_thinking(view: View) -> Iterator[Mismatch]:
    """Where the summary says that responses begin inside thinking, most do; an untrained policy writes any tag."""
    told, shown = view.summary.starts_in_think, _shown_thinking(view)
    if told is not None and shown.total() >= ENOUGH_ROWS and shown[not told] >= AGREEMENT * shown.total():
        yield "summary", f"starts_in_think {not told}, as {shown[not told]} of {shown.total()} rows show", str(told)


def _shared(source: TracedRow, row: TracedRow) -> Iterator[Mismatch]:
    """The same prompt and prefix, id for id, with the log-probs that the source had there."""
    record, session = row.record, source.record.session
    lengths = f"prompt_len {source.record.prompt_len}, prefix_len {source.record.prefix_len}"
    if lengths != f"prompt_len {record.prompt_len}, prefix_len {record.prefix_len}":
        yield where(record), lengths, f"prompt_len {record.prompt_len}, prefix_len {record.prefix_len}"
    if row.prefix != source.prefix:
        yield where(record), f"the {source.record.prefix_len} prefix tokens of session {session}", "other tokens"
    elif record.turn_lengths is not None and row.prefix_logprobs != source.prefix_logprobs:
        yield where(record), f"the prefix's log-probs of session {session}", "others"


def check_copies(view: View) -> Iterator[Mismatch]:
    """A continuation is drawn anew: it may repeat a likely end, but no unlikely one to the last bit, nor a clock."""
    for key in view.continuations.keys() & view.rows_at.keys():
        earlier = [view.rows_at[key]]
        for record in view.continuations[key]:
            row = view.rows_at[record.uid, record.session]
            for other in earlier:
                same = row.rest == other.rest and row.length > 0
                if same and (row.rest_logprob < CHANCE or _same_clock(record, other.record)):
                    rule = f"tokens of its own after the prefix, not session {other.record.session}'s"
                    yield where(record), rule, "the same tokens and log-probs"
            earlier.append(row)


def _same_clock(record: TrajectoryRecord, other: TrajectoryRecord) -> bool:
    """Whether calls took the very same time: clocks have nanoseconds."""
    seconds = [call.seconds for call in record.tool_calls]
    return bool(seconds) and seconds == [call.seconds for call in other.tool_calls]


def check_times(view: View) -> Iterator[Mismatch]:
    """A row ends after it began and after its calls; a continuation begins after its group's rollouts have ended, with
    speculation after its source has.
    """
    if not any(row.record.started for row in view.rows):
        return  # no clock: a trace that was made by hand
    settled: dict[str, float] = {}
    for record in view.records:
        if record.source_session is None:
            settled[record.uid] = max(settled.get(record.uid, 0.0), record.finished)
    for record in view.records:
        took = record.finished - record.started
        least = max((call.seconds for call in record.tool_calls), default=0.0)
        if record.started <= 0 or took < 0 or took < least - CLOCK_TOLERANCE:
            yield where(record), f"an end at least {least:.3f} s after the start", f"{took:.3f} s"
        if record.source_session is None:
            continue
        source = view.at.get((record.uid, record.source_session))
        speculates = view.summary.config.speculate and source is not None
        ended = source.finished if speculates and source else settled.get(record.uid, 0.0)
        if record.started < ended:
            rollouts = "its source has ended" if speculates else "the group's rollouts have ended"
            yield where(record), f"a start after {rollouts}, at {ended}", str(record.started)


def check_versions(view: View) -> Iterator[Mismatch]:
    """Weights only get newer: within a row, from a source to its continuations, and none are the step's own."""
    for record in view.records:
        if record.weight_versions is None:
            continue
        oldest, newest = record.weight_versions
        if not 0 <= oldest <= newest < record.step:
            rule = f"weights from before step {record.step}, the oldest first"
            yield where(record), rule, str(record.weight_versions)
        source = view.at.get((record.uid, record.source_session)) if record.source_session is not None else None
        if source is not None and source.weight_versions is not None and oldest < source.weight_versions[1]:
            yield where(record), f"weights from {source.weight_versions[1]} on, the source's newest", str(oldest)


def check_groups(view: View) -> Iterator[Mismatch]:
    """Question, truth, prompt and the question's pictures are those of the whole group; rows follow the questions."""
    for records in (question.records for question in questions_of(view.records)):
        yield from _unlike(records, "question", [record.question for record in records])
        yield from _unlike(records, "prompt_len", [record.prompt_len for record in records])
        yield from _unlike(records, "ground_truth", [repr(record.ground_truth) for record in records])
        without = [len(record.images) for record in records if not record.tool_calls]
        shared = min(without, default=0)  # tools add pictures; rows without a call have the question's alone
        yield from _unlike(records, "images of the question", [tuple(record.images[:shared]) for record in records])
        if len(set(without)) > 1:
            yield records[0].uid, "as many images in all rows without a tool call", str(sorted(set(without)))
    asked = list(dict.fromkeys(record.uid for record in view.records if record.source_session is None))
    expected = [uid for uid in view.summary.questions if uid in set(asked)]
    if expected != [uid for uid in asked if uid in set(expected)]:
        yield "summary", "questions in the order of the rows", "another order"


def _unlike(records: Sequence[TrajectoryRecord], name: str, values: Sequence[Hashable]) -> Iterator[Mismatch]:
    """The rows whose value is not the one that most rows of the group have."""
    usual, _ = Counter(values).most_common(1)[0]
    for record, value in zip(records, values, strict=True):
        if value != usual:
            yield where(record), f"the group's {name}, {usual!r:.60}", f"{value!r:.60}"
