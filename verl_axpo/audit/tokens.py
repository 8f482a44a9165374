"""The audit's rules on one row's tokens: record, arrays, the step's summary and tags -> all that is not as it must be.

What a value is checked against never comes from the value: masks against log-probs, log-probs against the number of
turns and the lengths that the engine returned, prefixes and spans against the tags in the ids and in the text.

"No token is trained by two rows" is two mask rules together: a selected source trains nothing after its prefix, a
continuation nothing inside it.
"""

import functools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from verl_axpo.audit.row import Tokens
from verl_axpo.audit.tags import Tags
from verl_axpo.audit.view import Mismatch, where
from verl_axpo.core.types import Status
from verl_axpo.tools.syntax import HERMES, CallSyntax
from verl_axpo.tools.syntax.base import after_space
from verl_axpo.tools.syntax.tagged import value_of
from verl_axpo.tools.text import utf8
from verl_axpo.trace import StepSummary, TrajectoryRecord
from verl_axpo.trace.records import ToolCall

CONFIDENCE_TOLERANCE = 1e-4  # relative: log-probs are float32, and their mean may have been taken in either precision
ENTROPY_TOLERANCE = 1e-3  # nats: each token's has three digits
LOGPROB_TOLERANCE = 1e-4  # an engine's log-prob of a sure token may be a rounding error above zero
_JSON = json.JSONDecoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class RowView:
    """One row as the checks of its tokens want it."""

    record: TrajectoryRecord
    tokens: Tokens
    summary: StepSummary
    tags: Tags


RowCheck = Callable[[RowView], Iterator[Mismatch]]


def check_masks(row: RowView) -> Iterator[Mismatch]:
    """Trained are the generated tokens: of a source at most the prefix, of a continuation all but it."""
    trained = _trained_range(row.record, row.summary)
    expected = row.tokens.told.copy()
    expected[: trained.start] = False
    expected[trained.stop :] = False
    wrong = np.flatnonzero(row.tokens.mask != expected)
    if len(wrong):
        rule = f"trained: generated tokens in [{trained.start}, {trained.stop})"
        yield where(row.record), rule, f"{len(wrong)} mask values differ, the first at {wrong[0]}"


def _trained_range(record: TrajectoryRecord, summary: StepSummary) -> range:
    if record.status is Status.INFRA_FAILURE:
        return range(0)  # a zero advantage alone would leave the KL term
    length, prefix = len(record.response_ids), record.prefix_len or 0
    if not summary.config.splits_rollouts:
        return range(length)
    if record.source_session is not None:
        return range(prefix, length)
    if record.selected:
        return range(prefix if summary.config.credits_prefix else 0)
    return range(length)


def check_turns(row: RowView) -> Iterator[Mismatch]:
    """As many stretches of generated tokens as assistant turns, of the engine's lengths; a tool's response in between.

    `num_turns` (the question, the assistant's turns, the tools') and `turn_lengths` are the agent loop's own counts.
    """
    record = row.record
    generated, responses = row.tokens.generated, row.tokens.responses
    turns = record.num_turns // 2, (record.num_turns - 1) // 2
    if (len(generated), len(responses)) != turns:
        expected = f"log-probs on {turns[0]} assistant turns, none on {turns[1]} tool responses"
        yield where(record), expected, f"{len(generated)} stretches with and {len(responses)} without"
    if record.turn_lengths is not None and list(record.turn_lengths) != generated:
        yield where(record), f"log-probs on turns of {list(record.turn_lengths)} tokens", f"{generated}"
    least = int(record.status is Status.OK and bool(record.tool_calls))
    if not least <= len(responses) <= len(record.tool_calls):
        expected = f"{least} to {len(record.tool_calls)} tool responses for {len(record.tool_calls)} calls"
        yield where(record), expected, str(len(responses))
    impossible = np.flatnonzero(row.tokens.logprobs > LOGPROB_TOLERANCE)
    if len(impossible):
        yield where(record), "log-probs of at most 0", f"{row.tokens.logprobs[impossible[0]]} at {impossible[0]}"


def check_prefix(row: RowView) -> Iterator[Mismatch]:
    """Prefix, span and confidence are there together; the prefix ends with the opening tag, the span with the closing.

    Where the first call opens is a rule of the whole step (`steps.check_prefix`).
    """
    record = row.record
    measured: dict[str, object] = {"prefix_len": record.prefix_len, "tool_call_span": record.tool_call_span}
    measured |= {"confidence": record.confidence} if row.tokens.told.any() else {}
    missing = [name for name, value in measured.items() if value is None]
    if missing and (len(missing) < len(measured) or record.tool_calls or record.confidence is not None):
        yield where(record), "a tool call with prefix_len, tool_call_span and confidence", f"no {', '.join(missing)}"
    elif record.prefix_len is not None and not record.tool_calls and record.status is Status.OK:
        yield where(record), "the tool call that the prefix leads to", "tool_calls is empty"
    if record.prefix_len is not None and record.tool_call_span is not None:
        yield from _span(row, record.prefix_len, *record.tool_call_span)


def _span(row: RowView, prefix: int, start: int, end: int) -> Iterator[Mismatch]:
    ids, tags = row.tokens.ids, row.tags
    turn = row.tokens.generated[0] if row.tokens.generated else 0
    if not (0 < prefix == start < end <= turn):
        yield where(row.record), f"a span from {prefix} inside the first turn of {turn} tokens", str((start, end))
        return
    if tags.open is not None and ids[prefix - 1] != tags.open:
        yield where(row.record), f"a prefix that ends with the opening tag, token {tags.open}", str(ids[prefix - 1])
    if tags.close is None:
        return
    closings = np.flatnonzero(ids[start:turn] == tags.close)
    inside = _closings_inside(row.record.text, tags.syntax) if len(closings) > 1 else 0
    expected = start + int(closings[min(inside, len(closings) - 1)]) + 1 if len(closings) else turn
    if end != expected:
        yield where(row.record), f"a span through the closing tag, to {expected}", str(end)


def _closings_inside(text: str, syntax: CallSyntax) -> int:
    """Closing tags in an argument of the first call, which close nothing."""
    opening = text.find(syntax.opening, max(text.find(syntax.thinking[1]), 0))
    begin = after_space(text, opening + len(syntax.opening))
    end = _end_of_json(text, begin) if syntax is HERMES else syntax.end_of(text, begin)
    closed = end is not None and text[end:].lstrip().startswith(syntax.closing)
    return text.count(syntax.closing, begin, end) if closed else 0


def _end_of_json(text: str, begin: int) -> int | None:
    try:
        return _JSON.raw_decode(text, begin)[1]
    except (ValueError, RecursionError):
        return None


def check_confidence(row: RowView) -> Iterator[Mismatch]:
    """Mean probability of the generated tokens of the first tool call."""
    record = row.record
    if record.confidence is None or record.tool_call_span is None:
        return
    span = slice(*record.tool_call_span)
    told = row.tokens.logprobs[span][row.tokens.told[span]]
    expected = float(np.exp(told).mean()) if len(told) else float("nan")
    if not abs(record.confidence - expected) <= CONFIDENCE_TOLERANCE * abs(expected):
        yield where(record), f"{expected:.6f}", f"{record.confidence:.6f}"


def check_entropy(row: RowView) -> Iterator[Mismatch]:
    """Mean entropy of the first tool call, and none of a token that the policy did not generate.

    Where entropy ranks, the engine measured the mean, and nobody the single tokens of that measurement.
    """
    record, entropies = row.record, row.tokens.entropies
    if entropies is None:
        return
    measured = ~np.isnan(entropies)
    if (measured & ~row.tokens.told).any():
        yield where(record), "entropies of generated tokens", f"one at {np.flatnonzero(measured & ~row.tokens.told)[0]}"
    of_call = slice(*(record.tool_call_span or (0, 0)))
    single = entropies[of_call]
    if record.entropy is None or not len(single) or np.isnan(single).any():
        return
    if row.summary.config.uncertainty == "entropy":
        return
    expected = float(single.mean())
    if not abs(record.entropy - expected) <= ENTROPY_TOLERANCE:
        yield where(record), f"{expected:.3f}", f"{record.entropy:.3f}"


def check_calls(row: RowView) -> Iterator[Mismatch]:
    """Calls are those that the text shows, in order; a failed one says why, and a failed service is its status."""
    record = row.record
    for call in record.tool_calls:
        if call.ok != (call.error is None) or (call.ok and call.infra) or call.seconds < 0:
            yield where(record), "a call that succeeded, or failed with an error", f"{call!r:.200}"
    if any(call.infra for call in record.tool_calls) and record.status is not Status.INFRA_FAILURE:
        yield where(record), "status infra_failure, for a call's service failed", record.status.value
    if row.tags.syntax.opening in record.text:
        written = list(_written_calls(record.text, row.tags.syntax))
        for call in record.tool_calls:
            decoded = call.name and isinstance(call.arguments, dict) and set(call.arguments) != {"raw"}
            if decoded and not any(_is_call(call, candidate) for candidate in written):
                yield where(record), "calls that the text shows", f"{call.name}({call.arguments})"[:200]


def _written_calls(text: str, syntax: CallSyntax) -> Iterator[tuple[Any, Any]]:
    """(name, arguments) of every call that can be read in the text, as the trace has it: NaN is null."""
    read = _json_at if syntax is HERMES else functools.partial(_call_at, syntax)
    for tag in re.finditer(re.escape(syntax.opening), text):  # one inside an argument is no call, and does not decode
        try:
            yield _as_traced(read(text, tag.end()))
        except (ValueError, TypeError, RecursionError):
            continue


def _as_traced(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))


def _json_at(text: str, begin: int) -> tuple[Any, Any]:
    value, _ = _JSON.raw_decode(text, after_space(text, begin))
    if not isinstance(value, dict):
        raise ValueError("no call")
    name = value.get("name")
    return utf8(name) if isinstance(name, str) else name, value.get("arguments", {})


def _call_at(syntax: CallSyntax, text: str, begin: int) -> tuple[Any, Any]:
    call = next(syntax.calls_in(text[begin - len(syntax.opening) :]), None)
    if call is None:
        raise ValueError("no call")
    return call[0].name, call[0].arguments


def _is_call(call: ToolCall, candidate: Sequence[Any]) -> bool:
    """Whether the text shows this call. Without the tools' schemas an argument may be read as the text that it is."""
    name, arguments = candidate
    if name != call.name or not isinstance(arguments, dict) or arguments.keys() != call.arguments.keys():
        return False
    return all(value in (arguments[key], _stands_for(arguments[key])) for key, value in call.arguments.items())


def _stands_for(value: Any) -> Any:
    try:
        return _as_traced(value_of(value)) if isinstance(value, str) else value
    except TypeError:  # the trace cannot hold it, and has the arguments as text
        return value


ROW_CHECKS: tuple[RowCheck, ...] = (
    check_masks,
    check_turns,
    check_prefix,
    check_confidence,
    check_entropy,
    check_calls,
)
