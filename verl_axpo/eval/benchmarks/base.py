"""What a benchmark is: where its rows are, what a row asks, how an answer is scored.

Source (repository, split, columns) -> rows -> ask() -> question() -> Question -> grade() -> Score
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from verl_axpo.eval import prompts
from verl_axpo.eval.registry import Described, PaperRow
from verl_axpo.eval.scorers.judging import Judge
from verl_axpo.eval.types import AnswerType, Question, Score

Row = Mapping[str, Any]
UNVERIFIED = "main"  # no hub could be reached while this was written: pass a commit to pin what you evaluate on
_COMMIT = re.compile(r"[0-9a-f]{40}")


class BenchmarkError(ValueError):
    """The data is not what the benchmark documents; the message says what was there and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the rows are.

    Example: `Source(repo="MathLLMs/MathVision", split="testmini", columns=("id", "question"))`
    """

    repo: str  # dataset repository on the Hugging Face hub
    split: str
    columns: tuple[str, ...]  # those that we read; others may be there
    config: str | None = None
    annotations: str | None = None  # a JSON or JSON lines file next to image files, instead of a table
    image_columns: tuple[str, ...] = ()
    revision: str = UNVERIFIED

    def commit(self, revision: str | None = None) -> str:
        """The commit that a branch or tag is at now; a commit is itself, without asking.

        Where the hub cannot be asked the revision comes back as it is: the data may lie in the cache.
        """
        wanted = revision or self.revision
        if _COMMIT.fullmatch(wanted):
            return wanted
        import httpx
        from huggingface_hub import HfApi

        try:
            return HfApi().dataset_info(self.repo, revision=wanted).sha or wanted
        except (httpx.HTTPError, OSError):  # no connection, offline mode, no such revision: reading says which
            return wanted


def asked(
    text: str,
    kind: AnswerType,
    truth: str,
    images: Sequence[bytes] = (),
    *,
    shown: str | None = None,
    options: Sequence[str] = (),
    list_options: bool = False,
    hint: str | None = None,
    metadata: Mapping[str, Any] = MappingProxyType({}),
) -> Question:
    """What a row asks; `Benchmark.question` adds whose question it is.

    Args:
        text: the question as the benchmark words it, for the judge.
        truth: the right answer.
        images: encoded files; those without a placeholder in the text come first.
        shown: the text of the prompt, where it differs.
        options: texts in the order of the letters; `list_options`: the prompt lists them, for the text does not.
        hint: a key of `prompts.HINTS`.
        metadata: what scorers and breakdowns need beyond that.
    """
    listed = options if list_options else ()
    return Question(
        benchmark="",
        uid="",
        prompt=prompts.render(text if shown is None else shown, kind, options=listed, images=len(images), hint=hint),
        ground_truth=truth,
        answer_type=kind,
        images=tuple(images),
        options=tuple(options),
        metadata={"question": text, **metadata},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark(Described):
    """One benchmark.

    Attributes:
        count: questions after `choose`; None: not known for sure, so counted and not asserted.
        ask: a row, and the folder of its image paths (None for a table with images inside) -> what it asks.
        grade: question, final answer (None if there is none), judge -> verdict.
        judged: an answer that the rule of `grade` does not call right is a judge's to decide.
        choose: where not all rows count, the values of the column `choose_by` -> rows that count.
        about: columns that go into the questions' metadata as text.
    """

    name: str
    count: int | None
    source: Source
    id_column: str
    ask: Callable[[Row, Path | None], Question]
    grade: Callable[[Question, str | None, Judge | None], Awaitable[Score]]
    judged: bool = False
    choose_by: str | None = None
    choose: Callable[[Sequence[Any]], list[int]] | None = None
    about: tuple[str, ...] = ()

    def question(self, row: Row, uid: str, folder: Path | None) -> Question:
        """The question of a row.

        Raises:
            ValueError: the row is not as documented.
        """
        question = self.ask(row, folder)
        metadata = {**question.metadata, **{name: str(row[name]) for name in self.about}}
        return replace(question, benchmark=self.name, uid=uid, metadata=metadata)


def paper_8b(grpo: tuple[float, float, float], axpo: tuple[float, float, float]) -> Mapping[str, PaperRow]:
    """The paper's 8B rows of one column, each (Pass@1, Pass@4, tool utilization)."""
    return {
        name: PaperRow(pass_1=numbers[0], pass_4=numbers[1], tool_use=numbers[2])
        for name, numbers in (("SFT+GRPO", grpo), ("SFT+AXPO", axpo))
    }
