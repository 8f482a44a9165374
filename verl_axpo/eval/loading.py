"""The questions of a benchmark, and which state of the hub's data they are.

    registry, NAME=PATH, NAME=COMMIT -> load() -> Loaded: questions, commit | "local" | None (made here)

A branch moves: it is resolved to its commit first, and the data is read at that commit.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verl_axpo.eval.manifest import FILE_NAME, read_manifest
from verl_axpo.eval.settings import Registry
from verl_axpo.eval.types import Question

LOCAL = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """`revision`: the hub's commit, `local` for a copy, None for a registry that reads no hub."""

    questions: list[Question]
    revision: str | None


def load(registry: Registry, name: str, copy: str | None, revision: str | None, limit: int | None = None) -> Loaded:
    """Load one benchmark.

    Args:
        registry: has it; one that reads a hub also has `commit_of(name, revision)`.
        name: of the benchmark.
        copy: a local copy's path; None for the hub.
        revision: the hub's commit, tag or branch; None for the benchmark's own.
        limit: only the first so many questions.

    Raises:
        ValueError: a revision for data that has none, or what the registry refuses.
    """
    resolve = getattr(registry, "commit_of", None)
    if revision is not None and (copy is not None or resolve is None):
        what = "a local copy" if copy is not None else "no data of a hub"
        raise ValueError(f"revision: got {revision!r} for {name}, which is {what}; drop --revision {name}=...")
    options: dict[str, Any] = {} if limit is None else {"limit": limit}  # a registry need not know what nobody asks for
    if copy is not None or resolve is None:
        return Loaded(questions=registry.load(name, copy, **options), revision=LOCAL if copy is not None else None)
    options["revision"] = commit = resolve(name, revision)
    return Loaded(questions=registry.load(name, **options), revision=commit)


def pairs(given: Sequence[str], names: Iterable[str], option: str) -> dict[str, str]:
    """NAME=VALUE options by name.

    Raises:
        ValueError: one without a value, or of another name than `names`.
    """
    known = list(names)
    found = dict(one.partition("=")[::2] for one in given)
    wrong = [name for name, value in found.items() if name not in known or not value]
    if wrong:
        raise ValueError(f"{option}: got {wrong}; expected NAME=VALUE with a name of {known}")
    return found


def pinned(folder: Path) -> Mapping[str, str]:
    """The commits that an evaluation's folder was begun with: it goes on from there, wherever the branch is now."""
    if not (folder / FILE_NAME).exists():
        return {}
    noted = {name: about.get("revision") for name, about in read_manifest(folder).benchmarks.items()}
    return {name: commit for name, commit in noted.items() if commit not in (None, LOCAL)}
