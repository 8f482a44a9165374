"""What a training's folder was begun with: `settings.json` next to verl's checkpoints.

config -> settings_of() -> objections(): continue with these settings? -> is_finished(): is anything left to do?
       -> begin() -> the training -> finish()
"""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import orjson
from omegaconf import DictConfig, OmegaConf

from verl_axpo.check.command import Command, Kind, dotted
from verl_axpo.files import write_atomically
from verl_axpo.integration.training_rows import FILES, listed

SETTINGS = "settings.json"
LATEST = "latest_checkpointed_iteration.txt"  # verl's own file
MOST_DIFFERENCES = 20  # shown; the first ones say what is wrong
FOOTER_BYTES = 1 << 16  # of a parquet file: its schema and statistics, so that no file of gigabytes is read
# Parts that change where and how fast a run computes and what it writes, not what it learns.
WITHOUT_RESULT = (
    *("trainer.", "ray_kwargs.", "transfer_queue.", "global_profiler.", "profiler.", "checkpoint."),
    *("algorithm.axpo.trace_dir", *FILES, "data.val_batch_size"),
)
KEEP = {"rl": "trainer.max_actor_ckpt_to_keep", "sft": "trainer.max_ckpt_to_keep"}


def settings_of(config: DictConfig, kind: Kind) -> dict[str, Any]:
    """What decides the result, flat: every key of the config but WITHOUT_RESULT, and a fingerprint of each data file.

    The number of steps or epochs is among them for SFT, whose learning rate follows it.
    """
    flat = dotted(OmegaConf.to_container(config, resolve=True))
    kept = {key: value for key, value in flat.items() if not key.startswith(WITHOUT_RESULT)}
    if kind == "sft":
        steps = kept["trainer.total_training_steps"] = flat.get("trainer.total_training_steps")
        if steps is None:
            kept["trainer.total_epochs"] = flat.get("trainer.total_epochs")
    for key in FILES:
        kept[key] = [fingerprint(file) for file in listed(OmegaConf.select(config, key))]
    loaded: dict[str, Any] = orjson.loads(orjson.dumps(kept))
    return loaded


def fingerprint(file: Path) -> str:
    """Size and hash of a file's end: a parquet file's schema, row groups, statistics. Empty: there is no file."""
    if not file.is_file():
        return ""
    size = file.stat().st_size
    with file.open("rb") as opened:
        opened.seek(max(0, size - FOOTER_BYTES))
        return f"{size}-{hashlib.sha256(opened.read()).hexdigest()[:16]}"


def trained(folder: Path) -> int:
    """The step of the last checkpoint, 0 without one."""
    latest = folder / LATEST
    return int(latest.read_text()) if latest.exists() else 0


def objections(folder: Path, settings: dict[str, Any], config: DictConfig, command: Command) -> list[str]:
    """Why a training in this folder cannot continue with these settings; nothing for a folder without a record."""
    record = _read(folder)
    if record is None:
        return []
    found = []
    if changed := differences(record["settings"], settings, command):
        found.append(
            f"{folder} was begun with other settings or data:\n" + "\n".join(changed[:MOST_DIFFERENCES]) + "\n"
            "Undo the change, or use another folder (OUT). To continue all the same, remove "
            f"{folder / SETTINGS} and every checkpoint that must not be used."
        )
    step, asked = trained(folder), OmegaConf.select(config, "trainer.total_training_steps")
    if asked is not None and step > asked:
        found.append(f"{folder} is trained to step {step}; ask for that many STEPS or more, or another OUT")
    return found


def differences(began: dict[str, Any], settings: dict[str, Any], command: Command) -> list[str]:
    """A line for each setting that changed.

    A key that the record does not have came with a later version of verl or of ours, at its default. It is a change
    only where the command names it, or a key above it.
    """
    lines = []
    for key in sorted({*began, *settings}):
        then, now = began.get(key), settings.get(key)
        named = any(f"{key}.".startswith(f"{name}.") for name in command.keys)
        if then != now and (key in began or named):
            lines.append(f"  {key}: {then!r} then, {now!r} now")
    return lines


def is_finished(folder: Path, settings: dict[str, Any], config: DictConfig, command: Command) -> bool:
    """Whether an earlier start with these settings came to its end.

    Raises:
        ValueError: the training cannot continue with these settings, or nobody knows with which it was begun.
    """
    record, step = _read(folder), trained(folder)
    if record is None and step:
        raise ValueError(
            f"{folder} has checkpoints but no {SETTINGS}, so nobody knows their settings; use another folder (OUT), "
            "or remove this one"
        )
    if found := objections(folder, settings, config, command):
        raise ValueError("\n".join(found))
    if record is None or not record["finished"]:
        return False
    asked, epochs = config.trainer.get("total_training_steps"), config.trainer.total_epochs
    return bool(record.get("epochs", epochs) >= epochs if asked is None else asked == step)


def begin(folder: Path, settings: dict[str, Any], config: DictConfig, kind: Kind) -> None:
    """Record the settings, and remove checkpoints that a new start cannot use: verl counts only its own process's."""
    _write(folder, settings, config, finished=False)
    if OmegaConf.select(config, KEEP[kind]) and OmegaConf.select(config, "trainer.resume_mode") == "auto":
        for checkpoint in folder.glob("global_step_*"):
            if checkpoint.name != f"global_step_{trained(folder)}":
                shutil.rmtree(checkpoint)


def finish(folder: Path, settings: dict[str, Any], config: DictConfig) -> None:
    """Record that the training came to its end."""
    _write(folder, settings, config, finished=True)


def _read(folder: Path) -> dict[str, Any] | None:
    record = folder / SETTINGS
    return dict(orjson.loads(record.read_bytes())) if record.exists() else None


def _write(folder: Path, settings: dict[str, Any], config: DictConfig, *, finished: bool) -> None:
    by_steps = config.trainer.get("total_training_steps") is not None  # however many epochs these are
    content = {"finished": finished, "epochs": 0 if by_steps else config.trainer.total_epochs, "settings": settings}
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
    write_atomically(folder / SETTINGS, orjson.dumps(content, option=options), flush=True)
