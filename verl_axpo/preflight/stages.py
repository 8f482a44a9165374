"""What a recipe would run: the plan file that recipes/parts/stages.sh writes -> Stage by Stage.

One stage is one line in the shell's own quoting, so that a command stands here exactly as it would be run:

    name=sft kind=sft makes=out/sft -- torchrun ... -m verl.trainer.sft_trainer data.train_files=data/sft.parquet
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

KINDS = ("command", "sft", "rl")
TRAINERS = {"sft": "verl.trainer.sft_trainer", "rl": "verl.trainer.main_ppo"}
CONFIG_NAMES = {"sft": "sft_trainer_engine", "rl": "ppo_trainer"}  # what verl's two trainers compose by themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of a recipe.

    Attributes:
        name: what the recipe calls it.
        kind: `sft` and `rl` are trainings of verl, whose config is checked; `command` is anything else.
        argv: the command line.
        needs: files and folders that must be there when it starts.
        makes: what it leaves behind.
        elsewhere: inputs that another recipe makes; a plan may be made before they are there, a run may not start.
        base: hub id, folder or `tiny`: the shape of a model that is not trained yet.
        rows: rows of the training file by the paper's count, for a plan made before the file exists; 0: unknown.
        images, image_tokens: most images of one row, and tokens of the largest image, for the memory estimate.
        row_images: images that a row of an RL step is expected to have, for the host's memory.
        gpu_gib: memory of one GPU; 0 where there is none.
        env: names of environment variables without which it cannot work.
        servers: URLs that must answer when it starts.
        disk_gib: what it writes, roughly.
        search_calls: paid searches that it may make; 0: it makes none, or nothing is known of them.
        search_percent, search_attempts: the estimate of those it will make: so many of a hundred attempts, with one
            each; a training's attempts are counted from its config.
        done: whether its mark says that it has run.
    """

    name: str
    kind: str
    argv: tuple[str, ...]
    needs: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    base: str = ""
    rows: int = 0
    images: int = 0
    image_tokens: int = 0
    row_images: float = 0.0
    gpu_gib: float = 0.0
    env: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    disk_gib: float = 0.0
    search_calls: int = 0
    search_percent: float = 0.0
    search_attempts: int = 0
    done: bool = False

    @property
    def overrides(self) -> tuple[str, ...]:
        """What verl's trainer gets behind its module's name, `--config-name` left out."""
        behind = self.argv[self.argv.index(TRAINERS[self.kind]) + 1 :]
        if behind[:1] == ("--config-name",):
            behind = behind[2:]
        return behind

    @property
    def config_name(self) -> str:
        """The config that verl's trainer composes."""
        if "--config-name" in self.argv:
            return self.argv[self.argv.index("--config-name") + 1]
        return CONFIG_NAMES[self.kind]


def read_plan(path: Path) -> list[Stage]:
    """All stages of a plan file, in order.

    Raises:
        ValueError: a line that is not a stage; the message has its number.
    """
    lines = path.read_text().splitlines()
    return [_parse(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def _parse(line: str, where: str) -> Stage:
    words = shlex.split(line)
    if "--" not in words:
        raise ValueError(f"{where}: got {line!r}, expected KEY=VALUE words, then -- and a command")
    at = words.index("--")
    values = _values(words[:at], where)
    argv = tuple(words[at + 1 :])
    kind = values["kind"][0] if values["kind"] else "command"
    if kind not in KINDS:
        raise ValueError(f"{where}: got kind={kind}, expected one of {list(KINDS)}")
    if kind in TRAINERS and TRAINERS[kind] not in argv:
        raise ValueError(f"{where}: a stage of kind={kind} runs {TRAINERS[kind]}, which is not in its command")
    return Stage(
        name=values["name"][0] if values["name"] else where,
        kind=kind,
        argv=argv,
        needs=tuple(values["needs"]),
        makes=tuple(values["makes"]),
        elsewhere=tuple(values["elsewhere"]),
        base=(values["base"] or [""])[-1],
        rows=int(_number(values["rows"])),
        images=int(_number(values["images"])),
        image_tokens=int(_number(values["image_tokens"])),
        row_images=_number(values["row_images"]),
        gpu_gib=_number(values["gpu_gib"]),
        env=tuple(values["env"]),
        servers=tuple(values["server"]),
        disk_gib=_number(values["disk_gib"]),
        search_calls=int(_number(values["search_calls"])),
        search_percent=_number(values["search_percent"]),
        search_attempts=int(_number(values["search_attempts"])),
        done=values["done"] == ["1"],
    )


_KEYS = (
    *("name", "kind", "needs", "makes", "elsewhere", "base", "rows", "images", "image_tokens"),
    *(
        "row_images",
        "gpu_gib",
        "env",
        "server",
        "disk_gib",
        "search_calls",
        "search_percent",
        "search_attempts",
        "done",
    ),
)


def _values(words: Sequence[str], where: str) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {key: [] for key in _KEYS}
    for word in words:
        key, sign, value = word.partition("=")
        if key not in values or not sign:
            raise ValueError(f"{where}: got {word!r}, expected KEY=VALUE with a key of {list(_KEYS)}")
        if value:  # a recipe's empty variable is no requirement
            values[key].append(value)
    return values


def _number(given: Sequence[str]) -> float:
    return float(given[-1]) if given else 0.0
