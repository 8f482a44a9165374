"""Which tokens open and close a call or the thinking: a step's summary or, in older traces, its texts -> `Tags`.

The ids are evidence for every prefix and span, so they come from elsewhere wherever they can: from the tokenizer, in
the summary, or they are the tokens that stand in the rows as often as the tags in the texts.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from verl_axpo.tools.syntax import HERMES, CallSyntax, syntax
from verl_axpo.trace import TrajectoryRecord

THINK, END_THINK, OPEN, CLOSE = HERMES.tags  # of traces older than call syntaxes
ROWS_TO_LEARN_FROM = 300  # enough for ids that every call repeats
AGREEMENT = 0.9  # share of the rows that must agree: a few damaged rows must not hide what all others show


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """Token ids; None for a tag that nothing shows. `syntax` is the model's call syntax."""

    syntax: CallSyntax = HERMES
    open: int | None
    close: int | None
    think: int | None
    end_think: int | None


def tags_of(
    summary_tags: Mapping[str, int] | None, records: Iterable[TrajectoryRecord], call_syntax: str | None = None
) -> Tags:
    """The tokenizer's ids if the summary has them, else what the first rows show.

    Raises:
        ValueError: a call syntax that this installation does not have.
    """
    if summary_tags is not None:
        written = syntax(call_syntax or HERMES.name)
        named = zip(("think", "end_think", "open", "close"), written.tags, strict=True)
        return Tags(syntax=written, **{name: summary_tags.get(tag) for name, tag in named})
    return _learnt(list(islice(records, ROWS_TO_LEARN_FROM)))


def _learnt(records: list[TrajectoryRecord]) -> Tags:
    records = [record for record in records if np.asarray(record.response_ids).dtype.kind in "iu"]
    generated = [(record.text, _generated(record)) for record in records]  # a tool's response repeats other tags
    close = _token_of(CLOSE, generated)
    opening = _token_of(OPEN, generated, other_than=close)
    if not any(OPEN in record.text for record in records):  # texts without tags, as of a trace that was made by hand
        ends = Counter(end for record in records if (end := _end_of_prefix(record)) is not None)
        opening = next((int(token) for token, _ in ends.most_common(1)), None)
    whole = [(record.text, np.asarray(record.response_ids)) for record in records]
    return Tags(open=opening, close=close, think=None, end_think=_token_of(END_THINK, whole))


def _token_of(tag: str, rows: list[tuple[str, npt.NDArray[np.int64]]], other_than: int | None = None) -> int | None:
    """The token that stands in (nearly) every row as often as the tag in its text; of several the largest id.

    Words of a call are as frequent as its tags, but a tokenizer adds its tags after all words.
    """
    agreeing: Counter[int] = Counter()
    strays: Counter[int] = Counter()
    for text, ids in rows:
        tokens, counts = np.unique(ids, return_counts=True)
        agree = counts == text.count(tag)
        agreeing.update(tokens[agree].tolist())
        strays.update(tokens[~agree].tolist())
    shown = sum(tag in text for text, _ in rows)
    allowed = (1 - AGREEMENT) * len(rows)
    sure = [token for token, rows_ in agreeing.items() if rows_ >= AGREEMENT * shown and strays[token] <= allowed]
    return max((token for token in sure if token != other_than), default=None) if shown else None


def _generated(record: TrajectoryRecord) -> npt.NDArray[np.int64]:
    told = [logprob is not None for logprob in record.logprobs]
    return np.asarray([token for token, mine in zip(record.response_ids, told, strict=False) if mine], dtype=np.int64)


def _end_of_prefix(record: TrajectoryRecord) -> int | None:
    length = record.prefix_len or 0
    return int(record.response_ids[length - 1]) if 0 < length <= len(record.response_ids) else None
