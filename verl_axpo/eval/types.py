"""What flows through `eval`: a Question comes out of a benchmark, a Score out of its scorer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal, get_args

AnswerType = Literal["math", "choice", "short_text", "judge"]
ScoredBy = Literal["rule", "judge", "nobody"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question of a benchmark.

    `prompt` is the user turn's text as the policy sees it, options and answer instruction rendered, `<image>` standing
    for the next of `images` (encoded files, as they came: PNG, JPEG or WebP bytes). `metadata` holds what the
    benchmark's scorer needs beyond the ground truth: aliases, precision, level, category.

    Example: `Question(benchmark="vstar", uid="17", prompt="<image>What colour ...", images=(b"...",),
    ground_truth="B", answer_type="choice", options=("red", "blue", "green", "white"))`
    """

    benchmark: str
    uid: str
    prompt: str
    ground_truth: str
    answer_type: AnswerType
    images: tuple[bytes, ...] = ()
    options: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The verdict on one rollout.

    `correct` is None when nobody could say: a judge that failed, never a wrong answer. `values` holds further numbers
    by name (another convention of the same benchmark, F1). `reason` says in one line what decided.

    Raises:
        TypeError: something else than that; it would be found in a number much later.

    Example: `Score(correct=True, by="rule", reason="letter B = B")`
    """

    correct: bool | None
    by: ScoredBy
    reason: str
    values: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.correct is None or isinstance(self.correct, bool)) or self.by not in get_args(ScoredBy):
            raise TypeError(
                f"score: got correct={self.correct!r}, by={self.by!r}; expected True, False or None, and one of "
                f"{list(get_args(ScoredBy))}"
            )
        wrong = [name for name, value in self.values.items() if not _is_finite(value)]
        if wrong:
            raise TypeError(f"score: got {dict(self.values)}; expected finite numbers for {wrong}")


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and isfinite(value)
