"""Hits -> one text within a token budget, every passage under its source.

    hits -> as many sources as the budget has room for -> an even share of the rest for each passage -> text

A short passage leaves the rest of its share to the others, so that one long page does not push out the rest.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path

from verl_axpo.tools.search.types import Hit
from verl_axpo.tools.text import inert

Counter = Callable[[str], int]
BYTES_PER_TOKEN = 3  # UTF-8 bytes; below what large vocabularies need for English (~4) and Chinese (3 to 6)
MIN_PASSAGE_TOKENS = 16  # a source with less text than that says nothing: rather one source fewer
CUT = " [...]"
NO_RESULTS = "No results. Try other or fewer words."


def estimated_tokens(text: str) -> int:
    """Tokens of `text` when no tokenizer is at hand: rather too many than too few."""
    return math.ceil(len(text.encode()) / BYTES_PER_TOKEN)


def token_counter(tokenizer: str | None) -> Counter:
    """Counts by a `tokenizer.json` (the file, or the folder of a model); None estimates.

    Raises:
        ValueError: no such file.
    """
    if tokenizer is None:
        return estimated_tokens
    path = Path(tokenizer).expanduser()
    path = path / "tokenizer.json" if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"tokenizer: got {tokenizer!r}, expected a tokenizer.json or the folder of a model with one")
    from tokenizers import Tokenizer  # not needed for the estimate

    loaded = Tokenizer.from_file(str(path))
    return lambda text: len(loaded.encode(text, add_special_tokens=False).ids)


def render(hits: Sequence[Hit], max_tokens: int, count: Counter = estimated_tokens) -> str:
    """The answer that the policy reads, best hit first; at most `max_tokens` by `count`.

    Sources that found no room are dropped from the end, and their number is said.
    """
    if not hits:
        return NO_RESULTS
    room = max_tokens
    while True:
        text = _fit(hits, room, count)
        # Pieces are counted one by one, and a tokenizer may need a token more for their sum
        excess = count(text) - max_tokens
        if excess <= 0:
            return text
        if room <= 0:  # one source alone is longer than the budget
            return _cut(text, max(0, max_tokens - count(CUT)), count)
        room -= excess


def _fit(hits: Sequence[Hit], room: int, count: Counter) -> str:
    kept = len(hits)
    while kept > 1 and _fixed_cost(hits, kept, count) + kept * MIN_PASSAGE_TOKENS > room:
        kept -= 1
    passages = [inert(hit.content.strip()) for hit in hits[:kept]]
    shares = _shares([count(one) for one in passages], max(0, room - _fixed_cost(hits, kept, count)))
    blocks = [
        _header(number, hits[number]) + "\n" + _cut(passage, share, count)
        for number, (passage, share) in enumerate(zip(passages, shares, strict=True))
    ]
    return "\n\n".join(blocks) + _left_out(len(hits) - kept)


def _header(number: int, hit: Hit) -> str:
    return f"[{number + 1}] {inert(hit.title.strip()) or 'untitled'}\n{inert(hit.url)}"


def _left_out(number: int) -> str:
    return f"\n\n({number} more found no room.)" if number else ""


def _fixed_cost(hits: Sequence[Hit], kept: int, count: Counter) -> int:
    headers = (count(_header(number, hit) + "\n\n\n") for number, hit in enumerate(hits[:kept]))
    return sum(headers) + kept * count(CUT) + count(_left_out(len(hits) - kept))


def _shares(needs: Sequence[int], room: int) -> list[int]:
    """`room` split evenly, what one does not need going to the others: needs 2, 9, 9 and room 12 give 2, 5, 5."""
    shares = [0] * len(needs)
    order = sorted(range(len(needs)), key=lambda at: needs[at])
    for left, at in zip(range(len(needs), 0, -1), order, strict=True):
        shares[at] = min(needs[at], room // left)
        room -= shares[at]
    return shares


def _cut(text: str, tokens: int, count: Counter) -> str:
    """`text`, or its longest beginning of at most `tokens` tokens that ends with a word, marked as cut."""
    if count(text) <= tokens:
        return text
    end = bisect_right(range(1, len(text) + 1), tokens, key=lambda length: count(text[:length]))
    beginning = text[:end]
    at_word = beginning.rsplit(None, 1)[0] if len(beginning.split()) > 1 else beginning
    return at_word + CUT
