"""One hit of a search, in the shape of Tavily's answers: `{"title", "url", "content", "score"}`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


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
            ValueError: `fields` is no object with a `url`; a missing title, content or score is empty, as Tavily
                leaves them out for some pages.
        """
        if not isinstance(fields, Mapping) or not isinstance(fields.get("url"), str):
            raise ValueError(f"a search result must be an object with a url, got {str(fields)[:80]!r}")
        score = fields.get("score")
        return cls(
            title=str(fields.get("title") or ""),
            url=fields["url"],
            content=str(fields.get("content") or ""),
            score=float(score) if isinstance(score, int | float) else 0.0,
        )
