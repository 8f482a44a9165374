"""Held-out evaluation before and after training: verdicts per question -> `heldout.json` -> Pass@1, Pass@n, tool use.

    {"before": {"questions": [{"uid": "h0", "rewards": [1.0, null], "uses_tool": [true, false]}, ...]}, "after": {...}}

`rewards` are the dump's `acc`, 1 for a correct answer: `score`, which is trained on, may hold what a tool call earns. A
null is an answer that nobody could judge; `generous()` counts it as correct, everything else as wrong. Rollouts that
ended in an infra failure are not in the lists (`from_rollouts` leaves them out and counts them).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from math import isnan
from pathlib import Path
from typing import Any, Literal, get_args

from verl_axpo.core.types import Status
from verl_axpo.files import write_atomically
from verl_axpo.report.passes import pass_at

Stage = Literal["before", "after"]
FILE_NAME = "heldout.json"
NEEDED = ("uid", "acc", "uses_tool", "infra_failure")  # of a line of the dump


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The n usable rollouts of one held-out question.

    Example: `Question(uid="h0", rewards=(1.0, 0.0, None, 1.0), uses_tool=(True, False, False, True))`
    """

    uid: str
    rewards: Sequence[float | None]
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
        return _mean(self._passes(1))

    @property
    def pass_at_n(self) -> float:
        """Share of the questions that any rollout answers, of those with all n (`verl_axpo.report.passes`)."""
        return _mean(self._passes(self.rollouts))

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
    def unscored(self) -> int:
        """Answers that nobody could judge."""
        return sum(reward is None for one in self.questions for reward in one.rewards)

    def generous(self) -> "Evaluation":
        """The same with these answers counted as correct: the other end of every number."""
        at_most = [
            [self.correct_threshold if reward is None else reward for reward in one.rewards] for one in self.questions
        ]
        pairs = zip(self.questions, at_most, strict=True)
        return replace(self, questions=tuple(replace(one, rewards=rewards) for one, rewards in pairs))

    @property
    def incomplete(self) -> int:
        """Questions with fewer than n usable rollouts, which Pass@n leaves out."""
        return sum(len(one.rewards) < self.rollouts for one in self.questions)

    @property
    def standard_error(self) -> float:
        """Of Pass@1, from its spread over the questions; nan for fewer than two."""
        shares = self._passes(1)
        count = len(shares)
        if count < 2:
            return float("nan")
        return float((sum((share - _mean(shares)) ** 2 for share in shares) / (count - 1) / count) ** 0.5)

    @classmethod
    def from_rollouts(
        cls, rollouts: Iterable[tuple[str, float | None, bool, Status]], correct_threshold: float = 1.0
    ) -> "Evaluation":
        """From (uid, reward or None, uses_tool, status) of every rollout, in any order."""
        by_uid: dict[str, list[tuple[float | None, bool]]] = {}
        failures = 0
        for uid, reward, uses_tool, status in rollouts:
            if status is Status.INFRA_FAILURE:
                failures += 1
            else:
                by_uid.setdefault(uid, []).append((None if reward is None else float(reward), bool(uses_tool)))
        questions = tuple(
            Question(uid=uid, rewards=tuple(one[0] for one in some), uses_tool=tuple(one[1] for one in some))
            for uid, some in by_uid.items()
        )
        return cls(questions=questions, infra_failures=failures, correct_threshold=correct_threshold)

    def _passes(self, k: int) -> list[float]:
        values = [pass_at(k, len(one.rewards), sum(self._correct(one))) for one in self.questions]
        return [value for value in values if not isnan(value)]

    def _correct(self, question: Question) -> list[bool]:
        return [reward is not None and reward >= self.correct_threshold for reward in question.rewards]


def evaluation_from_dump(path: str | Path) -> Evaluation:
    """From verl's validation dump (`trainer.validation_data_dir`): a JSON line per rollout, by `{uid}_{session}_0`.

    An answer whose judge failed has the `acc` null (`verl_axpo.eval.reward`) and no verdict; any other infra failure
    says nothing about the policy.

    Raises:
        ValueError: a line is damaged, or lacks one of `NEEDED`.
    """
    return Evaluation.from_rollouts(_rollout(line, path, at) for at, line in enumerate(_lines(path), 1) if line)


def _lines(path: str | Path) -> list[bytes]:
    return Path(path).read_bytes().split(b"\n")  # not `splitlines` of its text: an output may hold U+2028


def _rollout(line: bytes, path: str | Path, number: int) -> tuple[str, float | None, bool, Status]:
    try:
        one = json.loads(line)
        missing = [name for name in NEEDED if name not in one]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}, line {number}, is damaged: {error}; validate again, or delete the file") from error
    if missing:
        raise ValueError(
            f"{path}, line {number}: got {sorted(one)}, expected {missing} too; a reward function of your own returns "
            "`acc` next to `score`: 1.0 for a correct answer, whatever else it pays for"
        )
    failed = bool(one["infra_failure"]) and one["acc"] is not None
    status = Status.INFRA_FAILURE if failed else Status.OK
    return one["uid"].rsplit("_", 2)[0], one["acc"], bool(one["uses_tool"]), status


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
