"""What an evaluation is asked to do, and the benchmarks that it is asked with.

options -> Settings -> the manifest's values
Registry (names, get, load, score): `verl_axpo.eval.benchmarks`, or any module that has the same four; what a judge
decides it may say by `judged(question)`
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from verl_axpo.agent.conversation import CONVERSATIONS, Dialect
from verl_axpo.agent.types import Limits, Sampling
from verl_axpo.eval.manifest import in_words
from verl_axpo.eval.prompts import prompt_hash
from verl_axpo.eval.types import Question, Score
from verl_axpo.eval.weights import weights_hash
from verl_axpo.tools.configs import settings_of


class PaperRow(Protocol):
    """The paper's numbers for one model on one benchmark, in percent."""

    @property
    def pass_1(self) -> float: ...
    @property
    def pass_4(self) -> float: ...
    @property
    def tool_use(self) -> float: ...


class Described(Protocol):
    """A benchmark's place in the report: its column, the group that averages are taken over, its order, the paper's
    numbers by model name."""

    @property
    def column(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def place(self) -> int: ...
    @property
    def paper(self) -> Mapping[str, PaperRow]: ...


class Registry(Protocol):
    """The benchmarks, as `verl_axpo.eval.benchmarks` has them."""

    def names(self) -> Sequence[str]: ...
    def get(self, name: str) -> Described: ...
    def load(self, name: str, source: str | Path | None = None, *, limit: int | None = None) -> list[Question]: ...
    async def score(self, question: Question, answer: str | None, judge: Any) -> Score: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What may not change between two runs into one folder, but for a judge that comes later; the defaults are the
    paper's (section 4).

    Attributes:
        model: the name that the server has it under.
        rollouts: of each question (Pass@k's k).
        agent: with tools; False is the non-agent mode.
        dialect: see `verl_axpo.agent.conversation`.
        judge: the judge's model; None: rules alone.
    """

    model: str
    rollouts: int = 4
    agent: bool = True
    dialect: Dialect = "text"
    sampling: Sampling = field(default_factory=Sampling)
    limits: Limits = field(default_factory=Limits)
    judge: str | None = None

    def __post_init__(self) -> None:
        if self.rollouts < 1:
            raise ValueError(f"rollouts: got {self.rollouts}, expected at least 1")
        if self.dialect not in CONVERSATIONS:
            raise ValueError(f"dialect: got {self.dialect!r}; choose from {sorted(CONVERSATIONS)}")

    def for_manifest(self, tools: str | None) -> dict[str, Any]:
        """Plain values, with the options of each tool, a hash of the prompts' texts and, of a local checkpoint, which
        weights it holds. What of `sampling` is left to the server is `manifest.NOT_SENT`."""
        return {
            **asdict(self),
            "sampling": in_words(asdict(self.sampling)),
            "prompts": prompt_hash(),
            "weights": weights_hash(self.model),
            "tools": {} if tools is None else settings_of(tools),
        }


def judged(registry: Registry) -> Callable[[Question], bool] | None:
    """Question -> whether a judge decides on an answer to it that no rule calls right; None where the registry does not
    say: then it may."""
    found: Callable[[Question], bool] | None = getattr(registry, "judged", None) or getattr(
        registry, "needs_judge", None
    )
    return found


def count_judged(registry: Registry, questions: Mapping[str, Sequence[Question]]) -> dict[str, int]:
    """How many questions of each benchmark are a judge's where the rule does not say right; {} if nothing says so."""
    decides = judged(registry)
    return {} if decides is None else {name: sum(map(decides, some)) for name, some in questions.items()}


def about(
    registry: Registry, names: Sequence[str], revisions: Mapping[str, str] | None = None, **more: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """What the manifest keeps of each benchmark, so that a report needs no registry.

    Args:
        registry: describes them.
        names: of the benchmarks.
        revisions: as they were read, by benchmark.
        more: further entries, each by benchmark.
    """
    entries = {"revision": revisions or {}, **more}
    return {
        name: _about(registry.get(name)) | {entry: known[name] for entry, known in entries.items() if name in known}
        for name in names
    }


def _about(one: Described) -> dict[str, Any]:
    paper = {
        model: {"pass_1": row.pass_1, "pass_4": row.pass_4, "tool_use": row.tool_use}
        for model, row in one.paper.items()
    }
    return {"column": one.column, "group": one.group, "place": one.place, "paper": paper}
