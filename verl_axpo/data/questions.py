"""The problems as something an agent run can be asked with: `verl-axpo eval run --registry verl_axpo.data.questions`.

dedup/problems.jsonl + images/ -> load() -> [Question] -> answer -> score(): the training reward's rules -> Score
                                                                                  (then `verl-axpo data collect`)

The same attempts and the same rules for teacher and SFT model, with the tools, limits and statuses of training.
"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from verl_axpo.data.images import ImageStore
from verl_axpo.data.problem import Problem, read_problems
from verl_axpo.data.rows import ingest_of
from verl_axpo.data.workspace import Workspace
from verl_axpo.errors import InfraFailure
from verl_axpo.eval.registry import Described
from verl_axpo.eval.types import Question, Score
from verl_axpo.prompts import IMAGE
from verl_axpo.rewards.config import RewardConfig
from verl_axpo.rewards.graders import GRADERS, Case

NAMES = ("problems", "hard")  # the files of `dedup/`


def names() -> Sequence[str]:
    """The two sets that `verl-axpo data dedup` leaves."""
    return NAMES


def get(name: str) -> Described:
    """A set's place in the report; the paper has no numbers for it."""
    return Described(column=name, group="training data", place=_known(name))


def load(name: str, source: str | Path | None = None, *, limit: int | None = None) -> list[Question]:
    """The questions of a set, images and all: about as much memory as the images have bytes on disk.

    Args:
        name: of the set.
        source: the workspace (`--work` of `verl-axpo data`).
        limit: only the first so many.

    Raises:
        ValueError: an unknown set, no workspace, a damaged file, an image that is lost.
        FileNotFoundError: nothing de-duplicated there.
    """
    _known(name)
    if source is None:
        raise ValueError(f"{name}: needs a source; pass --source {name}=DIR, the --work folder of `verl-axpo data`")
    work = Workspace(Path(source))
    store = work.store()
    problems = islice(read_problems(work.dedup / f"{name}.jsonl"), limit)
    return [_question(name, problem, store) for problem in problems]


def needs_judge(question: Question) -> bool:
    """Whether an answer to it may be one that no rule decides."""
    return question.answer_type == "judge"


async def score(question: Question, answer: str | None, judge: Any) -> Score:
    """What the reward says to this answer in training; `judge` is asked where the reward would ask its own."""
    if answer is None:
        return Score(correct=False, by="rule", reason="no final answer")
    facts = {
        "aliases": question.metadata["aliases"],
        "options": question.options,
        "question": question.prompt.replace(IMAGE, "").strip(),
    }
    case = Case(answer=answer, truth=question.ground_truth, extra_info=facts, config=RewardConfig(), judge=judge)
    try:
        grade = await GRADERS[question.answer_type](case)
    except InfraFailure as failure:
        return Score(correct=None, by="nobody", reason=str(failure))
    if grade.reason is not None:
        return Score(correct=grade.correct, by="judge", reason=grade.reason)
    told = f"{question.answer_type}: {answer!r} {'is' if grade.correct else 'is not'} {question.ground_truth!r}"
    return Score(correct=grade.correct, by="rule", reason=told)


def _question(name: str, problem: Problem, store: ImageStore) -> Question:
    return Question(
        benchmark=name,
        uid=problem.id,
        prompt=problem.question,
        ground_truth=problem.answer,
        answer_type=problem.answer_type,
        images=tuple(store.read(image, ingest_of(problem)) for image in problem.images),
        options=problem.options,
        metadata={"aliases": list(problem.aliases), "source": problem.source},
    )


def _known(name: str) -> int:
    if name not in NAMES:
        raise ValueError(f"problems: got {name!r}; choose from {list(NAMES)}")
    return NAMES.index(name)
