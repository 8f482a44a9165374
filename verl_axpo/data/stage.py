"""A stage of the pipeline: done once, done again only when what it was made from has changed.

inputs' hashes + settings + versions == those in stage.json, outputs are what was written -> skipped
                                                              otherwise -> work() -> outputs -> stage.json, last

A stage that is killed leaves no `stage.json`, so that the next run does it again; whatever the work itself stores under
its content's hash (images, downloaded pieces) is found there and not done twice. Outputs of an earlier run are removed
first: no later stage can mix old files with new ones.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import orjson

from verl_axpo import data, images, prompts, rewards
from verl_axpo.files import remove_unfinished, sha256_of, write_atomically

RECORD = "stage.json"
EXAMPLES = 3  # of what a rule dropped, in the data card

Numbers = dict[str, Any]
T = TypeVar("T")


def versions(names: Iterable[str]) -> dict[str, int]:
    """The present versions of the rules that a result rests on; names are those of the packages that have them."""
    rules = {module.__name__.rpartition(".")[2]: module.VERSION for module in (data, images, prompts, rewards)}
    return {name: rules[name] for name in names}


def outdated(noted: Any) -> str:
    """Which of the noted versions are not the present ones, as words; empty when all are.

    Args:
        noted: the `versions` of a record; anything else was written before there were versions.
    """
    if not isinstance(noted, dict) or not noted:
        return "no versions then"
    present = versions(("data", "images", "prompts", "rewards"))
    changed = [
        f"{name} {then} then, {present.get(name)} now" for name, then in noted.items() if then != present.get(name)
    ]
    return "; ".join(changed)


def examples(dropped: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The first few of what each rule dropped, from pairs of the rule and what it dropped."""
    found: dict[str, list[str]] = {}
    for rule, name in dropped:
        if len(found.setdefault(rule, [])) < EXAMPLES:
            found[rule].append(name)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection(Generic[T]):
    """What was chosen, in training order, the part held out, and the numbers on the way; `examples` names the first few
    that each rule dropped."""

    train: tuple[T, ...]
    val: tuple[T, ...]
    numbers: Numbers
    examples: dict[str, list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a stage is made from and what it makes.

    `inputs` maps a name to a hash, `settings` is anything JSON can hold, `rests_on` names the rules whose versions
    count (see `versions`), `outputs` are file names in `out`.
    """

    name: str
    out: Path
    inputs: Mapping[str, str]
    settings: Mapping[str, Any]
    outputs: Sequence[str]
    rests_on: Sequence[str] = ("data",)

    def key(self) -> Numbers:
        """What must be equal for the stage to be skipped, as JSON gives it back."""
        rules, inputs, settings = versions(self.rests_on), dict(self.inputs), dict(self.settings)
        key = {"stage": self.name, "versions": rules, "inputs": inputs, "settings": settings}
        plain: Numbers = orjson.loads(orjson.dumps(key))
        return plain


def run(stage: Stage, work: Callable[[], Numbers]) -> tuple[Numbers, bool]:
    """Do a stage's work unless it is done.

    Args:
        stage: see there.
        work: writes the outputs into `stage.out` and returns the stage's numbers.

    Returns:
        the numbers, and whether the work was skipped.
    """
    record = stage.out / RECORD
    known = read_record(stage.out)
    remove_unfinished(stage.out)
    if known is not None and all(known.get(name) == value for name, value in stage.key().items()):
        written = _written(stage)
        if written is not None and written == known["outputs"]:
            return known["numbers"], True
    stage.out.mkdir(parents=True, exist_ok=True)
    for name in (RECORD, *stage.outputs):
        (stage.out / name).unlink(missing_ok=True)
    numbers = work()
    made = {**stage.key(), "outputs": _written(stage), "numbers": numbers}
    write_atomically(record, orjson.dumps(made, option=orjson.OPT_INDENT_2), flush=True)
    return numbers, False


def read_record(out: Path) -> Numbers | None:
    """The record of a finished stage, None when there is none that can be read."""
    try:
        loaded = orjson.loads((out / RECORD).read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    return loaded if isinstance(loaded, dict) and {"stage", "outputs", "numbers"} <= loaded.keys() else None


def _written(stage: Stage) -> dict[str, str] | None:
    """The hash of each output; None when one is missing."""
    paths = {name: stage.out / name for name in stage.outputs}
    if not all(path.exists() for path in paths.values()):
        return None
    return {name: sha256_of(path) for name, path in paths.items()}


def hashes(paths: Iterable[Path]) -> dict[str, str]:
    """The inputs of a stage that are files, in order, each by its content: moving the whole folder changes nothing.

    Raises:
        FileNotFoundError: one is missing; says which.
        ValueError: an earlier stage's output that other rules made, or that was changed since; says what to run.
    """
    found = {}
    for number, path in enumerate(paths):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; run the stage that makes it first")
        found[f"{number} {path.resolve().parent.name}/{path.name}"] = digest = sha256_of(path)
        _check_made(path, digest)
    return found


def _check_made(path: Path, digest: str) -> None:
    record = read_record(path.parent)
    if record is None or path.name not in record["outputs"]:
        return
    again = f"run `verl-axpo data {record['stage']}` again"
    changed = outdated(record.get("versions"))
    if changed:
        raise ValueError(f"{path}: made by other rules ({changed}); {again}")
    if record["outputs"][path.name] != digest:
        raise ValueError(f"{path}: not what the stage {record['stage']!r} wrote; {again}")
