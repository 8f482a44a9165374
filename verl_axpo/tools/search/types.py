"""One hit of a search, in the shape of Tavily's answers: `{"title", "url", "content", "score"}`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MAX_SCORE = 1e9  # no engine's; a whole number of JSON may be too large for a float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A passage and where it comes from; `score` in [0, 1], higher is better.

    Example: `Hit(title="Oslo", url="https://example.org/oslo", content="Oslo is the capital ...", score=0.91)`
    """

    title: str
    url: str
    content: str
    score: float

    def to_json(self) -> dict[str, Any]:
        """The hit as the cache keeps it."""
        return asdict(self)

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
