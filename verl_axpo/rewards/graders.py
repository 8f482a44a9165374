"""One grader per answer type, and which type a row has.

    data_source, extra_info -> answer_type_of() -> GRADERS[type](Case) -> Grade

To add a type, write a grader and put it into `GRADERS`; to route a data set, give its rows `extra_info.answer_type`, or
its `data_source` a line in `DATA_SOURCES` (or in `reward_kwargs.answer_types`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from verl_axpo.rewards import choice, short_text
from verl_axpo.rewards.answer import MAX_CHARS, normalise
from verl_axpo.rewards.config import JudgeConfig, RewardConfig
from verl_axpo.rewards.judge import Judge
from verl_axpo.rewards.math import compare

# Data sources whose rows are all of one type. A name also covers what follows it after a slash ("tiny/perception").
DATA_SOURCES: dict[str, str] = {
    "tiny": "exact",
    "fvqa": "short_text",
    "lmms-lab/fvqa": "short_text",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One answer to grade.

    `extra_info` is the row's: `options` (choice), `aliases` (short_text, judge) and `question` (judge) are read.
    `judge`, if given, is used instead of the configuration's.
    """

    answer: str
    truth: str
    extra_info: Mapping[str, Any]
    config: RewardConfig
    judge: Judge | None = None

    def texts(self, key: str) -> list[str]:
        """A list of texts in `extra_info`, empty when it is missing. Parquet hands lists over as arrays.

        Raises:
            ValueError: something else is there.
        """
        found = self.extra_info.get(key)
        if found is None:
            return []
        if isinstance(found, str | bytes | Mapping) or not hasattr(found, "__iter__"):
            raise ValueError(f"extra_info.{key}: got {type(found).__name__} {found!r}, expected a list of texts")
        return [str(text) for text in found]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """`undecided`: a number too large to be compared, which counts as wrong. `reason`: the judge's, None where
    none was asked."""

    correct: bool
    undecided: bool = False
    reason: str | None = None


Grader = Callable[[Case], Awaitable[Grade]]


async def exact(case: Case) -> Grade:
    """The same text, up to case and white space."""
    return Grade(correct=normalise(case.answer) == normalise(case.truth))


async def math(case: Case) -> Grade:
    """The same value (`math.py`)."""
    verdict = compare(case.answer, case.truth)
    return Grade(correct=verdict is True, undecided=verdict is None)


async def multiple_choice(case: Case) -> Grade:
    """The same option (`choice.py`)."""
    return Grade(correct=choice.is_chosen(case.answer, case.truth, case.texts("options")))


async def text(case: Case) -> Grade:
    """The same words as the truth or an alias, in the same order (`short_text.py`)."""
    return Grade(correct=short_text.matches(case.answer, [case.truth, *case.texts("aliases")]))


async def judged(case: Case) -> Grade:
    """The same words as the truth or an alias; or else the judge decides. An answer that is too long is wrong.

    Raises:
        InfraFailure: the judge gave no verdict.
        ValueError: no judge is configured, or the row has no question.
    """
    if short_text.matches(case.answer, [case.truth, *case.texts("aliases")]):
        return Grade(correct=True)
    if not case.answer.strip() or len(case.answer) > MAX_CHARS:
        return Grade(correct=False)
    question = case.extra_info.get("question")
    if not isinstance(question, str) or not question.strip():
        raise ValueError(f"judge: extra_info.question is {question!r}; the judge needs the question's text there")
    reference = " / ".join([case.truth, *case.texts("aliases")])
    verdict = await (case.judge or judge_of(case.config.judge)).judge(question, reference, case.answer)
    return Grade(correct=verdict.correct, reason=verdict.reason)


GRADERS: dict[str, Grader] = {
    "math": math,
    "choice": multiple_choice,
    "short_text": text,
    "judge": judged,
    "exact": exact,
}


def answer_type_of(data_source: str, extra_info: Mapping[str, Any], config: RewardConfig) -> str:
    """The row's `answer_type`, or its data source's.

    Raises:
        ValueError: neither is there, or the type is none of `GRADERS`.
    """
    table = {**DATA_SOURCES, **{name.lower(): kind for name, kind in config.answer_types.items()}}
    name = data_source.lower()
    while name and name not in table:
        name = name.rpartition("/")[0]
    kind = extra_info.get("answer_type") or table.get(name)
    if kind is None:
        raise ValueError(
            f"reward: a row of data_source {data_source!r} has no answer type; set extra_info.answer_type to one of "
            f"{list(GRADERS)}, or add the data_source to reward_kwargs.answer_types (known are {sorted(table)})"
        )
    if kind not in GRADERS:
        raise ValueError(f"reward: got answer_type {kind!r} for {data_source!r}, expected one of {list(GRADERS)}")
    return str(kind)


# A judge's connections belong to the event loop that opened them
_judges: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[JudgeConfig, Judge]] = WeakKeyDictionary()


def judge_of(config: JudgeConfig | None) -> Judge:
    """This loop's judge of this configuration: one cache, one rate, one pool of connections."""
    if config is None:
        raise ValueError(
            "judge: only a judge can grade this answer, and none is configured; set reward_kwargs.judge.base_url and "
            "reward_kwargs.judge.model (docs/rewards.md)"
        )
    judges = _judges.setdefault(asyncio.get_running_loop(), {})
    return judges.get(config) or judges.setdefault(config, Judge(config))
