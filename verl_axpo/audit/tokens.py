"""The audit's rules on tokens: view of a step -> prefixes, masks and confidences that are not as they must be.

"No token is trained by two rows" is two mask rules together: a selected source trains nothing after its prefix, a
continuation nothing inside it.
"""

import math
from collections import Counter
from collections.abc import Iterator

from verl_axpo.audit.view import Found, View, where
from verl_axpo.core.types import Kind, Status
from verl_axpo.trace import StepSummary, TrajectoryRecord

CONFIDENCE_TOLERANCE = 1e-4  # relative: log-probs are float32, and their mean may have been taken in either precision


def check_prefix(view: View) -> Iterator[Found]:
    """The prefix ends with the opening tag, the call starts there; continuations share its token ids exactly."""
    ends = {where(one): _end_of_prefix(one) for one in view.records if one.prefix_len is not None}
    tag = Counter(ends.values()).most_common(1)[0][0] if ends else None
    for record in view.records:
        if ends.get(where(record), tag) != tag:
            yield where(record), f"a prefix that ends with the opening tag, token {tag}", f"{ends[where(record)]}"
        if record.tool_call_span is not None and not _is_span(record, *record.tool_call_span):
            yield where(record), f"a span from {record.prefix_len} inside the response", str(record.tool_call_span)
    if view.summary.config.prefix == "fixed":
        for key in view.continuations.keys() & view.at.keys():
            yield from _shared(view.at[key], view.continuations[key])


def _end_of_prefix(record: TrajectoryRecord) -> int | None:
    """The prefix's last token id; None for a prefix that is empty or longer than the response."""
    length = record.prefix_len or 0
    return record.response_ids[length - 1] if 0 < length <= len(record.response_ids) else None


def _shared(source: TrajectoryRecord, continuations: list[TrajectoryRecord]) -> Iterator[Found]:
    length = source.prefix_len or 0
    prefix = list(source.response_ids[:length])
    for record in continuations:
        if (record.prompt_len, record.prefix_len) != (source.prompt_len, source.prefix_len):
            lengths = f"prompt_len {source.prompt_len}, prefix_len {source.prefix_len}"
            yield where(record), lengths, f"prompt_len {record.prompt_len}, prefix_len {record.prefix_len}"
        if list(record.response_ids[:length]) != prefix:
            yield where(record), f"the {length} prefix tokens of session {source.session}", "other tokens"


def check_masks(view: View) -> Iterator[Found]:
    """Trained are the generated tokens: of a source at most the prefix, of a continuation all but it."""
    for record in view.records:
        generated = [one is not None for one in record.logprobs]
        if not len(record.response_ids) == len(record.response_mask) == len(generated):
            yield where(record), "one mask value and log-prob per token", "other lengths"
            continue
        trained = _trained_range(record, view.summary)
        wrong = [
            index
            for index, mask in enumerate(record.response_mask)
            if mask != int(generated[index] and index in trained)
        ]
        if _untold_tool_response(record):
            yield where(record), "a tool response that the policy did not generate", "log-probs on every token"
        if wrong:
            rule = f"trained: generated tokens in [{trained.start}, {trained.stop})"
            yield where(record), rule, f"{len(wrong)} mask values differ, the first at {wrong[0]}"


def _trained_range(record: TrajectoryRecord, summary: StepSummary) -> range:
    if record.status is Status.INFRA_FAILURE:
        return range(0)  # a zero advantage alone would leave the KL term
    length, prefix = len(record.response_ids), record.prefix_len or 0
    if not summary.config.splits_rollouts:
        return range(length)
    if record.kind is Kind.RESAMPLE:
        return range(prefix, length)
    if record.selected:
        return range(prefix if summary.config.credits_prefix else 0)
    return range(length)


def _untold_tool_response(record: TrajectoryRecord) -> bool:
    """A finished trajectory with a tool call has tokens that the policy did not write: the tool's response."""
    return record.status is Status.OK and bool(record.tool_calls) and None not in record.logprobs


def check_confidence(view: View) -> Iterator[Found]:
    """Mean probability of the generated tokens of the first tool call."""
    for record in view.records:
        if record.confidence is None or record.tool_call_span is None:
            continue
        span = [one for one in record.logprobs[slice(*record.tool_call_span)] if one is not None]
        expected = sum(map(math.exp, span)) / len(span) if span else math.nan
        if not math.isclose(expected, record.confidence, rel_tol=CONFIDENCE_TOLERANCE):
            yield where(record), f"{expected:.6f}", f"{record.confidence:.6f}"


def _is_span(record: TrajectoryRecord, start: int, end: int) -> bool:
    return start == record.prefix_len and start < end <= len(record.response_ids)
