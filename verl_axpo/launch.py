"""Start a command that may have been started before: `verl-axpo run -- <any command>`.

    argv -> check -> settings.json of its folder: begun with the same settings? finished already? -> run, bar, log

A training of verl goes on from its last checkpoint by itself (`trainer.resume_mode=auto`). Here it also refuses to go
on with other settings or data than those it began with, and is done in seconds when nothing is left to do. Any other
command runs as it is; ours resume by themselves.
"""

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from verl_axpo import check, lock, progress
from verl_axpo.check import Command, Kind
from verl_axpo.files import replacing
from verl_axpo.findings import show
from verl_axpo.integration.startup import FILES, listed

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


def run(argv: Sequence[str], title: str, log: Path, console: Console) -> int:
    """Check the command and run it, unless it is done.

    Args:
        argv: the command.
        title: what the bar and the messages call it.
        log: of a training's output; other commands write to the screen.

    Returns:
        the command's exit status; 1 when a check failed.

    Raises:
        ValueError: its config cannot be composed; its folder was begun with other settings or data, or is trained
            further than asked.
        FolderInUseError: another training owns its folder.
    """
    command = check.parse(argv)
    if command is None:
        console.print(f"[bold]{title}[/]")
        return subprocess.run(list(argv), check=False).returncode
    config = check.compose(command)
    folder = Path(config.trainer.default_local_dir)
    settings = settings_of(config, command.kind)
    if is_finished(folder, settings, config, command):
        console.print(f"{title}: done (trained to step {trained(folder)})")
        return 0
    if not show(console, (finding for finding in check.check(argv) if not finding.ok)):
        return 1
    lock.own(folder)  # while its files are changed; the training then owns it
    _begin(folder, settings, config, command.kind)
    lock.give_up(folder)
    os.environ.setdefault("VERL_FILE_LOGGER_PATH", str(folder.parent / f"metrics_{int(time.time())}.jsonl"))
    status = progress.run(title, log, list(argv), OmegaConf.select(config, "trainer.total_training_steps"))
    if status == 0:
        _write(folder, settings, finished=True)
    return status


def settings_of(config: DictConfig, kind: Kind) -> dict[str, Any]:
    """What decides the result, flat: every key of the config but WITHOUT_RESULT, and a fingerprint of each data file.

    The number of steps is among them for SFT, whose learning rate follows it.
    """
    flat = check.dotted(OmegaConf.to_container(config, resolve=True))
    kept = {key: value for key, value in flat.items() if not key.startswith(WITHOUT_RESULT)}
    if kind == "sft":
        kept["trainer.total_training_steps"] = flat.get("trainer.total_training_steps")
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


def is_finished(folder: Path, settings: dict[str, Any], config: DictConfig, command: Command) -> bool:
    """Whether an earlier start with these settings came to its end.

    Raises:
        ValueError: it was begun with others, or is trained further than this command asks.
    """
    step, asked = trained(folder), OmegaConf.select(config, "trainer.total_training_steps")
    record = _read(folder)
    if record is None and step:
        raise ValueError(
            f"{folder} has checkpoints but no {SETTINGS}, so nobody knows their settings; use another folder (OUT), "
            "or remove this one"
        )
    if record is None:
        return False
    if changed := differences(record["settings"], settings, command):
        raise ValueError(
            f"{folder} was begun with other settings or data:\n" + "\n".join(changed[:MOST_DIFFERENCES]) + "\n"
            "Undo the change, or use another folder (OUT). To go on all the same, remove "
            f"{folder / SETTINGS} and every checkpoint that must not be used."
        )
    if asked is not None and step > asked:
        raise ValueError(f"{folder} is trained to step {step}; ask for that many STEPS or more, or another OUT")
    return bool(record["finished"]) and (asked is None or step == asked)


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


def _begin(folder: Path, settings: dict[str, Any], config: DictConfig, kind: Kind) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, settings, finished=False)
    if OmegaConf.select(config, KEEP[kind]) and OmegaConf.select(config, "trainer.resume_mode") == "auto":
        _forget_earlier(folder)


def _forget_earlier(folder: Path) -> None:
    """Remove checkpoints that a new start can no longer use: verl counts only those of its own process."""
    for checkpoint in folder.glob("global_step_*"):
        if checkpoint.name != f"global_step_{trained(folder)}":
            shutil.rmtree(checkpoint)


def _read(folder: Path) -> dict[str, Any] | None:
    record = folder / SETTINGS
    if not record.exists():
        return None
    loaded: dict[str, Any] = orjson.loads(record.read_bytes())
    return loaded


def _write(folder: Path, settings: dict[str, Any], finished: bool) -> None:
    with replacing(folder / SETTINGS) as unfinished:
        unfinished.write_bytes(
            orjson.dumps(
                {"finished": finished, "settings": settings}, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
            )
        )
