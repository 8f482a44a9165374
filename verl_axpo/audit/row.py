"""A row while its tokens are in memory: record -> `Tokens` -> the few facts that the step's rules need of them.

A step of real size has 60 million values in its token arrays: they are looked at row by row and let go.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from verl_axpo.audit.tags import Tags
from verl_axpo.core.config import AxpoConfig
from verl_axpo.trace import TrajectoryRecord

Array = npt.NDArray[Any]

ERROR_CHARACTERS = 40  # of a call's error: more than the words that tell the kinds of error apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """A row's token arrays, T long each."""

    ids: Array  # (T,)
    mask: Array  # (T,)
    logprobs: Array  # (T,) float64, nan where null
    entropies: Array | None  # (T,) float64, nan where null
    told: Array  # (T,) bool: has a log-prob, so the policy generated it
    generated: list[int]  # lengths of the stretches that the policy generated
    responses: list[int]  # and of those in between


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedRow:
    """What the step's rules need of a row.

    `call_at` and `unanswered` hold for a turn that begins outside thinking and for one that begins inside, for only the
    whole step shows which of them is right.
    """

    record: TrajectoryRecord  # without tokens, text and arguments
    length: int  # T
    generated: int  # tokens
    opens_in_think: bool | None  # whether the response's first tag of thinking closes it; None without such a tag
    call_at: tuple[int | None, int | None]  # token of the first call's opening tag
    unanswered: tuple[bool, bool]  # whether the last turn has a call that nothing follows
    prefix: bytes  # digest of the prefix's ids
    prefix_logprobs: bytes
    rest: bytes  # digest of the ids and log-probs after the prefix
    rest_logprob: float  # ln of the probability of what was generated after the prefix


def tokens_of(record: TrajectoryRecord) -> Tokens:
    """The record's arrays.

    Raises:
        ValueError: arrays of different lengths, or something else than numbers in them.
    """
    ids, mask = np.asarray(record.response_ids), np.asarray(record.response_mask)
    logprobs = np.asarray(record.logprobs, dtype=np.float64)
    for name, values in {"response_ids": ids, "response_mask": mask}.items():
        if len(values) and values.dtype.kind not in "iu":
            raise ValueError(f"{name}: got {values.dtype} values, expected integers")
    if not len(ids) == len(mask) == len(logprobs):
        raise ValueError(f"got {len(ids)} ids, {len(mask)} mask values, {len(logprobs)} log-probs, expected as many")
    told = ~np.isnan(logprobs)
    entropies = None if record.entropies is None else np.asarray(record.entropies, dtype=np.float64)
    if entropies is not None and len(entropies) != len(ids):
        raise ValueError(f"got {len(ids)} ids and {len(entropies)} entropies, expected as many")
    edges = (np.flatnonzero(told[1:] != told[:-1]) + 1).tolist()
    lengths = [end - start for start, end in zip([0, *edges], [*edges, len(told)], strict=True) if end > start]
    first = int(bool(lengths) and not told[0])
    return Tokens(
        ids=ids,
        mask=mask,
        logprobs=logprobs,
        entropies=entropies,
        told=told,
        generated=lengths[first::2],
        responses=lengths[1 - first :: 2],
    )


def traced_row(record: TrajectoryRecord, tokens: Tokens, tags: Tags, config: AxpoConfig) -> TracedRow:
    """The facts of a row."""
    prefix = record.prefix_len or 0 if config.prefix == "fixed" else 0
    generated, ids = tokens.generated, tokens.ids
    first_turn = ids[: generated[0]] if generated else ids
    last_turn = ids[len(ids) - generated[-1] :] if generated and tokens.told[-1] else ids[:0]
    thinking = ids[_places(ids, tags.think, tags.end_think)[:1]]
    return TracedRow(
        record=_light(record),
        length=len(tokens.ids),
        generated=int(tokens.told.sum()),
        opens_in_think=bool(thinking[0] == tags.end_think) if len(thinking) else None,
        call_at=(first_call(first_turn, tags, False), first_call(first_turn, tags, True)),
        unanswered=(_opened(last_turn, tags, False) is not None, _opened(last_turn, tags, True) is not None),
        prefix=_digest(tokens.ids[:prefix]),
        prefix_logprobs=_digest(tokens.logprobs[:prefix]),
        rest=_digest(tokens.ids[prefix:], tokens.logprobs[prefix:]),
        rest_logprob=float(np.nansum(tokens.logprobs[prefix:])),
    )


def first_call(turn: Array, tags: Tags, thinking: bool) -> int | None:
    """Where the turn's first call opens; an opening tag with nothing after it, cut off by the limit, calls nothing."""
    at = _opened(turn, tags, thinking)
    return at if at is not None and at + 1 < len(turn) else None


def _opened(turn: Array, tags: Tags, thinking: bool) -> int | None:
    """The first opening tag outside thinking, in a turn that begins inside (`thinking`) or outside."""
    for at in _places(turn, tags.open, tags.think, tags.end_think):
        if turn[at] != tags.open:
            thinking = bool(turn[at] == tags.think)
        elif not thinking:
            return int(at)
    return None


def _places(ids: Array, *tokens: int | None) -> list[int]:
    wanted = np.zeros(len(ids), dtype=bool)
    for token in tokens:
        if token is not None:
            wanted |= ids == token
    places: list[int] = np.flatnonzero(wanted).tolist()
    return places


def _light(record: TrajectoryRecord) -> TrajectoryRecord:
    calls = [
        replace(call, arguments=None, error=call.error and call.error[:ERROR_CHARACTERS]) for call in record.tool_calls
    ]
    return replace(record, response_ids=(), response_mask=(), logprobs=(), entropies=None, text="", tool_calls=calls)


def _digest(*arrays: Array) -> bytes:
    return hashlib.blake2b(b"".join(array.tobytes() for array in arrays), digest_size=16).digest()
