"""A stage of the pipeline: done once, done again only when what it was made from has changed.

inputs' hashes + settings + version == those in stage.json, outputs there -> skipped
                                                               otherwise  -> work() -> outputs -> stage.json, last

A stage that is killed leaves no `stage.json`, so that the next run does it again; whatever the work itself stores under
its content's hash (images, downloaded pieces) is found there and not done twice.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from verl_axpo.data.files import replacing, sha256_of

RECORD = "stage.json"
_FORMAT = orjson.OPT_INDENT_2

Numbers = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a stage is made from and what it makes.

    `inputs` maps a name to a hash, `settings` is anything JSON can hold, `version` goes up whenever the code gives
    other results for the same inputs, `outputs` are file names in `out`.
    """

    name: str
    out: Path
    inputs: Mapping[str, str]
    settings: Mapping[str, Any]
    outputs: Sequence[str]
    version: int = 1

    def key(self) -> Numbers:
        """What must be equal for the stage to be skipped, as JSON gives it back."""
        made: Numbers = orjson.loads(
            orjson.dumps(
                {
                    "stage": self.name,
                    "version": self.version,
                    "inputs": dict(self.inputs),
                    "settings": dict(self.settings),
                }
            )
        )
        return made


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
    if known is not None and all(known.get(name) == value for name, value in stage.key().items()):
        sizes = _sizes(stage)
        if sizes is not None and sizes == known["outputs"]:
            return known["numbers"], True
    record.unlink(missing_ok=True)
    stage.out.mkdir(parents=True, exist_ok=True)
    numbers = work()
    with replacing(record) as unfinished:
        unfinished.write_bytes(
            orjson.dumps({**stage.key(), "outputs": _sizes(stage), "numbers": numbers}, option=_FORMAT)
        )
    return numbers, False


def once(out: Path, settings: Mapping[str, Any], work: Callable[[], object]) -> bool:
    """Fill a folder once; it is never filled again, and never with other settings.

    Returns:
        whether the work was done now.

    Raises:
        ValueError: the folder was filled with other settings.
    """
    record, wanted = out / RECORD, orjson.loads(orjson.dumps(dict(settings)))
    if record.exists():
        made = orjson.loads(record.read_bytes())
        if made != wanted:
            changed = [
                f"{key}: {made.get(key)} then, {wanted.get(key)} now" for key in wanted if made.get(key) != wanted[key]
            ]
            raise ValueError(
                f"{out} was made with other settings ({'; '.join(changed)}); use another folder, or remove it"
            )
        return False
    out.mkdir(parents=True, exist_ok=True)
    work()
    with replacing(record) as unfinished:
        unfinished.write_bytes(orjson.dumps(wanted, option=_FORMAT))
    return True


def read_record(out: Path) -> Numbers | None:
    """The record of a finished stage, None when there is none."""
    record = out / RECORD
    if not record.exists():
        return None
    loaded: Numbers = orjson.loads(record.read_bytes())
    return loaded


def _sizes(stage: Stage) -> dict[str, int] | None:
    """Bytes of each output; None when one is missing."""
    paths = {name: stage.out / name for name in stage.outputs}
    if not all(path.exists() for path in paths.values()):
        return None
    return {name: path.stat().st_size for name, path in paths.items()}


def hashes(paths: Iterable[Path]) -> dict[str, str]:
    """The inputs of a stage that are files, in order, each by its content: moving the whole folder changes nothing.

    Raises:
        FileNotFoundError: one is missing; says which.
    """
    found = {}
    for number, path in enumerate(paths):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; run the stage that makes it first")
        found[f"{number} {path.resolve().parent.name}/{path.name}"] = sha256_of(path)
    return found
