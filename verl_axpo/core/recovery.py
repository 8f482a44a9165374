"""R, the recovery reward of a prefix: its scored continuations -> 1, 0, or nothing learned (equation 3)."""

from collections.abc import Iterable

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Scored, usable


def recovery(continuations: Iterable[Scored], config: AxpoConfig) -> int | None:
    """R: 1 if any usable continuation is correct, else 0; None if none is usable, so that nothing was learned."""
    kept = usable(continuations)
    return int(any(config.is_correct(continuation.reward) for continuation in kept)) if kept else None
