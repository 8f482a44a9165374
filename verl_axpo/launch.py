"""Start a command that may have been started before: `verl-axpo run -- <any command>`.

    argv -> training_folder.py: begun with the same settings? finished already? -> check -> run, with a bar and a log

A training of verl continues from its last checkpoint by itself (`trainer.resume_mode=auto`). Here it also refuses to
continue with other settings or data than it began with, and takes seconds when nothing is left to do. Any other
command runs as it is; ours resume by themselves.
"""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console

from verl_axpo import check, lock, progress, training_folder
from verl_axpo.findings import show


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
    settings = training_folder.settings_of(config, command.kind)
    if training_folder.is_finished(folder, settings, config, command):
        console.print(f"{title}: done (trained to step {training_folder.trained(folder)})")
        return 0
    if not show(console, (finding for finding in check.check(argv) if not finding.ok)):
        return 1
    lock.own(folder)  # while its files are changed; the training then owns it
    training_folder.begin(folder, settings, config, command.kind)
    lock.give_up(folder)
    os.environ.setdefault("VERL_FILE_LOGGER_PATH", str(folder.parent / f"metrics_{int(time.time())}.jsonl"))
    status = progress.run(title, log, list(argv), OmegaConf.select(config, "trainer.total_training_steps"))
    if status == 0:
        training_folder.finish(folder, settings, config)
    return status
