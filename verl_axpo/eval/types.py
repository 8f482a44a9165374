"""What flows through `eval`: a Question comes out of a benchmark, a Score out of its scorer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

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

    Example: `Score(correct=True, by="rule", reason="letter B = B")`
    """

    correct: bool | None
    by: ScoredBy
    reason: str
    values: Mapping[str, float] = field(default_factory=dict)
