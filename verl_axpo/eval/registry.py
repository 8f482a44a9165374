"""The benchmarks of an evaluation: a module with `names`, `get`, `load` and `score`, and what they are asked for.

    --registry -> registry_named() -> Registry -> load() -> Loaded: questions, commit | "local" | None (made here)
                                               -> about() -> what manifest and report say of each benchmark

`verl_axpo.eval.benchmarks` is such a module; docs/add_a_benchmark.md shows one of your own.
"""

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Protocol, cast

from verl_axpo.eval.manifest import read_manifest
from verl_axpo.eval.store import MANIFEST
from verl_axpo.eval.types import Question, Score
from verl_axpo.prompts import IMAGE

OURS = "verl_axpo.eval.benchmarks"
LOCAL = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """What the paper (arXiv 2605.28774, 8B table) prints for one model on one benchmark, in percent."""

    pass_1: float
    pass_4: float
    tool_use: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A benchmark's place in the report: its column, the group that averages are taken over, its order, the paper's
    numbers by model name."""

    column: str
    group: str
    place: int = 0
    paper: Mapping[str, PaperRow] = field(default_factory=dict)


class Registry(Protocol):
    """The benchmarks. A module may also have:

    judged(question): whether a judge decides on an answer that no rule calls right; without it, always.
    needs_judge(question): whether no rule can decide, so that a run without a judge is refused.
    commit_of(name, revision): the commit of the hub's data; `load` then also takes `revision`.
    """

    def names(self) -> Sequence[str]: ...
    def get(self, name: str) -> Described: ...
    def load(self, name: str, source: str | Path | None = None, *, limit: int | None = None) -> list[Question]: ...
    async def score(self, question: Question, answer: str | None, judge: Any) -> Score: ...


def registry_named(name: str) -> Registry:
    """The module of benchmarks: an installed one, or one in the current folder.

    Raises:
        ValueError: it cannot be imported, or lacks one of the four functions.
    """
    if os.getcwd() not in sys.path:  # a console script does not have it, unlike `python -m`
        sys.path.append(os.getcwd())
    try:
        module: ModuleType = importlib.import_module(name.removesuffix(".py").replace("/", "."))
    except (ModuleNotFoundError, TypeError) as error:  # TypeError: a name that begins with a dot or a slash
        raise ValueError(
            f"registry: got {name!r}, which cannot be imported from {os.getcwd()} or PYTHONPATH: {error}"
        ) from error
    missing = [function for function in ("names", "get", "load", "score") if not hasattr(module, function)]
    if missing:
        raise ValueError(f"registry: {name} has no {missing}; docs/add_a_benchmark.md shows what they return")
    return cast(Registry, module)


def judged(registry: Registry) -> Callable[[Question], bool] | None:
    """Question -> whether a judge decides on an answer that no rule calls right; None where the registry does not say:
    then it may."""
    decides: Callable[[Question], bool] | None = getattr(registry, "judged", None)
    return decides or getattr(registry, "needs_judge", None)


def about(registry: Registry, names: Iterable[str], **more: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the manifest keeps of each benchmark, so that a report needs no registry.

    Args:
        names: of the benchmarks.
        more: further entries, each by benchmark (`revision`, `judged`).
    """
    described = {name: registry.get(name) for name in names}
    return {
        name: {
            **{entry: getattr(benchmark, entry) for entry in ("column", "group", "place")},
            "paper": {model: asdict(row) for model, row in benchmark.paper.items()},
            **{entry: values[name] for entry, values in more.items() if name in values},
        }
        for name, benchmark in described.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """`revision`: the hub's commit, `local` for a copy, None for a registry that reads no hub."""

    questions: list[Question]
    revision: str | None


def load(registry: Registry, name: str, copy: str | None, revision: str | None, limit: int | None = None) -> Loaded:
    """Load one benchmark. A branch moves: it is resolved to its commit first, and the data is read at that commit.

    Args:
        registry: has it.
        name: of the benchmark.
        copy: a local copy's path; None for the hub.
        revision: the hub's commit, tag or branch; None for the benchmark's own.
        limit: only the first so many questions.

    Raises:
        ValueError: a limit below 1, a revision for data that has none, or what the registry refuses.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit: got {limit}, expected at least 1; leave it out for all questions")
    resolve = getattr(registry, "commit_of", None)
    if revision is not None and (copy is not None or resolve is None):
        what = "a local copy" if copy is not None else "no data of a hub"
        raise ValueError(f"revision: got {revision!r} for {name}, which is {what}; drop --revision {name}=...")
    options: dict[str, Any] = {} if limit is None else {"limit": limit}  # a registry need not know what nobody asks for
    if copy is not None or resolve is None:
        return Loaded(questions=registry.load(name, copy, **options), revision=LOCAL if copy is not None else None)
    options["revision"] = commit = resolve(name, revision)
    return Loaded(questions=registry.load(name, **options), revision=commit)


def load_all(
    registry: Registry,
    chosen: Sequence[str] | None,
    sources: Sequence[str] | None,
    revisions: Sequence[str] | None,
    limit: int | None = None,
    begun: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[tuple[str, Loaded]]:
    """Load benchmarks one after another, as the options of the command line name them.

    Args:
        registry: has them.
        chosen: names; None for all.
        sources, revisions: NAME=PATH of local copies, NAME=COMMIT on the hub.
        limit: only the first so many questions of each.
        begun: the commits that an evaluation was begun with, for names without a copy or a revision.

    Raises:
        ValueError: see `load` and `pairs`.
    """
    names = list(chosen or registry.names())
    copies = pairs(sources or (), names, "source")
    commits: dict[str, str | None] = {**begun, **dict.fromkeys(copies), **pairs(revisions or (), names, "revision")}
    return ((name, load(registry, name, copies.get(name), commits.get(name), limit)) for name in names)


def check_images(question: Question) -> None:
    """Raises ValueError where the prompt asks for another number of images than the question has."""
    wanted = question.prompt.count(IMAGE)
    if wanted != len(question.images):
        raise ValueError(
            f"question {question.uid} of {question.benchmark}: got {len(question.images)} images for {wanted} {IMAGE} "
            "in its prompt, expected as many; correct its benchmark's module"
        )


def pairs(given: Sequence[str], names: Iterable[str], option: str) -> dict[str, str]:
    """NAME=VALUE options by name.

    Raises:
        ValueError: a name without a value, or another name than `names`.
    """
    known = list(names)
    values = dict(pair.partition("=")[::2] for pair in given)
    wrong = [name for name, value in values.items() if name not in known or not value]
    if wrong:
        raise ValueError(f"{option}: got {wrong}; expected NAME=VALUE with a name of {known}")
    return values


def pinned(folder: Path) -> dict[str, str]:
    """The commits that an evaluation's folder was begun with: it goes on from there, wherever the branch is now."""
    if not (folder / MANIFEST).exists():
        return {}
    noted = {name: entries.get("revision") for name, entries in read_manifest(folder).benchmarks.items()}
    return {name: commit for name, commit in noted.items() if commit not in (None, LOCAL)}
