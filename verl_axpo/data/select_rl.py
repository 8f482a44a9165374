"""Which problems RL trains on (paper, section 4).

problems of SFT - those the teacher fails 4 of 4 - those the SFT model solves 4 of 4 + the hard set -> RL set

The hard set was chosen by its own model's failures (Qwen3-VL-4B, 0 of 4) and is not filtered again.
"""

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from verl_axpo.data.problem import Problem
from verl_axpo.data.rollouts import Solved
from verl_axpo.data.stage import Selection, examples

Undecided = Literal["error", "keep", "drop"]
NAMED = 3  # undecided problems quoted in the message


@dataclass(frozen=True, slots=True, kw_only=True)
class RlConfig:
    """`attempts` of each model decide about a problem; with fewer it is undecided. `hard` problems of the hard set are
    drawn (None: all), `val` problems are held out of the result for verl's validation. `undecided` problems may be kept
    or dropped as long as they are at most `max_undecided` of all: more means that attempts are missing."""

    attempts: int = 4
    hard: int | None = 22_000
    val: int = 256
    undecided: Undecided = "error"
    max_undecided: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if self.undecided not in get_args(Undecided):
            raise ValueError(f"undecided: got {self.undecided!r}; choose from {list(get_args(Undecided))}")
        if not 0 <= self.max_undecided <= 1:
            raise ValueError(f"max_undecided: got {self.max_undecided}, expected a share between 0 and 1")
        if self.attempts < 1 or self.val < 0 or (self.hard or 0) < 0:
            raise ValueError(
                f"got attempts={self.attempts}, hard={self.hard}, val={self.val}; expected 1 or more, then 0 or more"
            )


def select(
    problems: Sequence[Problem],
    hard: Sequence[Problem],
    taught: Collection[str],
    teacher: Mapping[str, Solved],
    student: Mapping[str, Solved],
    config: RlConfig,
) -> Selection[Problem]:
    """Choose the RL set.

    Args:
        problems: de-duplicated, without the hard set.
        hard: the de-duplicated hard set.
        taught: ids of the problems with a trajectory in the SFT data.
        teacher: how often the teacher solved a problem.
        student: how often the SFT model solved it.
        config: see there.

    Raises:
        ValueError: undecided problems (`undecided="error"`), more of them than `max_undecided`, or nothing is left.
    """
    fates = {problem.id: _fate(problem.id, taught, teacher, student, config.attempts) for problem in problems}
    undecided = [name for name, fate in fates.items() if fate == "undecided"]
    bound = 0.0 if config.undecided == "error" else config.max_undecided
    if len(undecided) > bound * len(problems):
        raise ValueError(
            f"{len(undecided)} of {len(problems)} problems ({', '.join(undecided[:NAMED])}, ...) have too few scored "
            f"attempts (fewer than {config.attempts}) to decide about them, and at most {bound:.2%} may. Run the "
            "models on them, or keep or drop them with --undecided keep|drop and --max-undecided"
        )
    stays = {"kept", "undecided"} if config.undecided == "keep" else {"kept"}
    easy = [problem for problem in problems if fates[problem.id] in stays]
    rng = random.Random(f"rl/{config.seed}")
    drawn = list(hard) if config.hard is None or config.hard >= len(hard) else rng.sample(list(hard), config.hard)
    everything = easy + drawn
    if len(everything) <= config.val:
        raise ValueError(
            f"only {len(everything)} problems are left for RL, and --val {config.val} holds that many out; lower --val"
        )
    rng.shuffle(everything)
    return Selection(
        train=tuple(everything[config.val :]),
        val=tuple(everything[: config.val]),
        numbers={
            **_fates(Counter(fates.values()), config),
            "kept": len(easy),
            "hard_available": len(hard),
            "hard_drawn": len(drawn),
            "total": len(everything),
            "train": len(everything) - config.val,
            "val": config.val,
            "by_source": dict(Counter(problem.source for problem in everything)),
            "by_answer_type": dict(Counter(problem.answer_type for problem in everything)),
            "without_image": sum(not problem.images for problem in everything),
        },
        examples=examples((fate, name) for name, fate in fates.items() if fate not in stays),
    )


def _fate(
    name: str, taught: Collection[str], teacher: Mapping[str, Solved], student: Mapping[str, Solved], attempts: int
) -> str:
    by_teacher, by_student = teacher.get(name, Solved(0, 0)), student.get(name, Solved(0, 0))
    if by_teacher.correct == 0:
        return "teacher_fails" if by_teacher.attempts >= attempts else "undecided"
    if name not in taught:
        return "not_in_sft"
    if by_student.attempts < attempts:
        # one failure is enough to know that it does not solve all
        return "kept" if by_student.correct < by_student.attempts else "undecided"
    return "student_solves" if by_student.correct == by_student.attempts else "kept"


def _fates(counts: Counter[str], config: RlConfig) -> dict[str, Any]:
    return {
        "problems": counts.total(),
        "dropped_teacher_fails_all": counts["teacher_fails"],
        "dropped_not_in_sft": counts["not_in_sft"],
        "dropped_sft_model_solves_all": counts["student_solves"],
        "undecided": counts["undecided"],
        "dropped_undecided": counts["undecided"] if config.undecided == "drop" else 0,
    }
