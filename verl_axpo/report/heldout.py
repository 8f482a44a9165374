"""Held-out evaluation before and after training: rewards per question -> `heldout.json` -> Pass@1, Pass@n, tool use.

    {"before": {"questions": [{"uid": "h0", "rewards": [1.0, 0.0], "uses_tool": [true, false]}, ...]}, "after": {...}}

Rollouts that ended in an infra failure are not in the lists (`from_rollouts` leaves them out and counts them).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from verl_axpo.core.types import Status
from verl_axpo.trace.writer import write_atomically

Stage = Literal["before", "after"]
FILE_NAME = "heldout.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The n usable rollouts of one held-out question.

    Example: `Question(uid="h0", rewards=(1.0, 0.0, 0.0, 1.0), uses_tool=(True, False, False, True))`
    """

    uid: str
    rewards: Sequence[float]
    uses_tool: Sequence[bool]

    def __post_init__(self) -> None:
        if len(self.rewards) != len(self.uses_tool) or not self.rewards:
            raise ValueError(
                f"held-out question {self.uid}: got {len(self.rewards)} rewards and {len(self.uses_tool)} uses_tool, "
                "expected one of each per rollout, at least one; leave out a question without usable rollouts"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A policy on the held-out questions; rates are in [0, 1]."""

    questions: Sequence[Question]
    infra_failures: int = 0
    correct_threshold: float = 1.0

    @property
    def pass_at_1(self) -> float:
        """Mean over questions of the share of correct rollouts."""
        return _mean([sum(self._correct(one)) / len(one.rewards) for one in self.questions])

    @property
    def pass_at_n(self) -> float:
        """Share of the questions that any rollout answers."""
        return _mean([any(self._correct(one)) for one in self.questions])

    @property
    def tool_use(self) -> float:
        """Mean over questions of the share of rollouts with a tool call."""
        return _mean([sum(one.uses_tool) / len(one.uses_tool) for one in self.questions])

    def all_wrong(self, *, uses_tool: bool) -> float:
        """Of the questions with such a rollout, the share where all of these are wrong: the Thinking-Acting Gap."""
        subgroups = [
            [right for right, used in zip(self._correct(one), one.uses_tool, strict=True) if used == uses_tool]
            for one in self.questions
        ]
        return _mean([not any(some) for some in subgroups if some])

    @property
    def rollouts(self) -> int:
        """n, the most rollouts that a question has."""
        return max((len(one.rewards) for one in self.questions), default=0)

    @property
    def standard_error(self) -> float:
        """Of Pass@1, from its spread over the questions; nan for fewer than two."""
        shares = [sum(self._correct(one)) / len(one.rewards) for one in self.questions]
        count = len(shares)
        if count < 2:
            return float("nan")
        return float((sum((share - _mean(shares)) ** 2 for share in shares) / (count - 1) / count) ** 0.5)

    @classmethod
    def from_rollouts(
        cls, rollouts: Iterable[tuple[str, float, bool, Status]], correct_threshold: float = 1.0
    ) -> "Evaluation":
        """From (uid, reward, uses_tool, status) of every rollout, in any order."""
        by_uid: dict[str, list[tuple[float, bool]]] = {}
        failures = 0
        for uid, reward, uses_tool, status in rollouts:
            if status is Status.INFRA_FAILURE:
                failures += 1
            else:
                by_uid.setdefault(uid, []).append((float(reward), bool(uses_tool)))
        questions = tuple(
            Question(uid=uid, rewards=tuple(one[0] for one in some), uses_tool=tuple(one[1] for one in some))
            for uid, some in by_uid.items()
        )
        return cls(questions=questions, infra_failures=failures, correct_threshold=correct_threshold)

    def _correct(self, question: Question) -> list[bool]:
        return [reward >= self.correct_threshold for reward in question.rewards]


def evaluation_from_dump(path: str | Path) -> Evaluation:
    """From verl's validation dump (`trainer.validation_data_dir`): a JSON line per rollout, by `{uid}_{session}_0`."""
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return Evaluation.from_rollouts(
        (
            one["uid"].rsplit("_", 2)[0],
            one["score"],
            bool(one["uses_tool"]),
            Status.INFRA_FAILURE if one["infra_failure"] else Status.OK,
        )
        for one in lines
    )


def write_heldout(run_dir: str | Path, stage: Stage, evaluation: Evaluation) -> Path:
    """Put one stage into the run's `heldout.json`, whole or not at all; the other stage stays as it is."""
    path = Path(run_dir) / FILE_NAME
    stages = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(stages | {stage: asdict(evaluation)}, indent=1).encode())
    return path


def read_heldout(run_dir: str | Path) -> dict[Stage, Evaluation]:
    """The stages in the run's `heldout.json`; {} without the file.

    Raises:
        ValueError: the file is not as `write_heldout` writes it.
    """
    path = Path(run_dir) / FILE_NAME
    if not path.exists():
        return {}
    try:
        stages = json.loads(path.read_text())
        return {stage: _evaluation(stages[stage]) for stage in get_args(Stage) if stage in stages}
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: no held-out evaluation ({error}); write it with verl_axpo.report.heldout") from error


def _evaluation(values: dict[str, Any]) -> Evaluation:
    return Evaluation(**values | {"questions": tuple(Question(**one) for one in values["questions"])})


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
