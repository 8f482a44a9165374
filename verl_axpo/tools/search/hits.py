"""The hits of a search, and the text that the policy reads: passages under their sources, at most `max_tokens`.

    hits -> as many sources as there is room for -> an even share of the rest for each passage -> text

A hit has the shape of Tavily's answers: `{"title", "url", "content", "score"}`. A short passage leaves the rest of its
share to the others, so that one long page does not push out the rest.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verl_axpo.tools.text import inert

Counter = Callable[[str], int]
MAX_SCORE = 1e9  # above every engine's; a whole number of JSON may be too large for a float
BYTES_PER_TOKEN = 3  # UTF-8 bytes; below what large vocabularies need for English (~4) and Chinese (3 to 6)
MIN_PASSAGE_TOKENS = 16  # a source with room for less text than that is left out
CUT = " [...]"
NO_RESULTS = "No results. Try other or fewer words."


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A passage and where it comes from; `score` in [0, 1], higher is better.

    Example: `Hit(title="Oslo", url="https://example.org/oslo", content="Oslo is the capital ...", score=0.91)`
    """

    title: str
    url: str
    content: str
    score: float

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Hit":
        """The hit in a cache entry or in an engine's answer; further fields are dropped.

        Raises:
            ValueError: `fields` is no object with a `url`, or a field is of another type; a missing title, content or
                score is empty, as Tavily leaves them out for some pages.
        """
        match fields:
            case {"url": str(url)}:
                texts = fields.get("title") or "", fields.get("content") or ""
                score = fields.get("score") or 0.0
                is_score = isinstance(score, int | float) and abs(score) <= MAX_SCORE
                if is_score and all(isinstance(text, str) for text in texts):
                    return cls(title=texts[0], url=url, content=texts[1], score=float(score))
        raise ValueError(f"a search result must be an object with a url and texts, got {str(fields)[:80]!r}")


def estimated_tokens(text: str) -> int:
    """Tokens of `text` when no tokenizer is at hand: too many rather than too few."""
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

    Sources for which there is no room are dropped from the end, and the text says how many.
    """
    if not hits:
        return NO_RESULTS
    room = max_tokens
    while True:
        text = _fit(hits, room, count)
        # Pieces are counted separately, and a tokenizer may need a token more for their sum
        excess = count(text) - max_tokens
        if excess <= 0:
            return text
        if room <= 0:  # one source alone is too long
            return _cut(text, max(0, max_tokens - count(CUT)), count)
        room -= excess


def _fit(hits: Sequence[Hit], room: int, count: Counter) -> str:
    kept = len(hits)
    while kept > 1 and _fixed_cost(hits, kept, count) + kept * MIN_PASSAGE_TOKENS > room:
        kept -= 1
    passages = [inert(hit.content.strip()) for hit in hits[:kept]]
    shares = _shares([count(passage) for passage in passages], max(0, room - _fixed_cost(hits, kept, count)))
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
    """`room` split evenly; what a passage does not need goes to the others: needs 2, 9, 9 and room 12 give 2, 5, 5."""
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
