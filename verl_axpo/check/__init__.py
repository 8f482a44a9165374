"""What would stop a command, found before it costs anything: `verl-axpo check -- <any verl command>`.

argv -> command.py  which training, and the config that it composes
     -> training_folder.py    whether its folder was begun with other settings
     -> config.py   AXPO's rules and completion, verl's own validation, lengths, values, and what the run reads
     -> machine.py  packages, GPUs, keys, tools; only where it will run

The rules of AXPO and of what a run reads are the plugin's (`integration/completion.py`), said by the same functions.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from verl_axpo import training_folder
from verl_axpo.check import machine as here
from verl_axpo.check.command import Command, Kind, compose, parse
from verl_axpo.check.config import check_config
from verl_axpo.findings import Finding, problem

__all__ = ["Command", "Kind", "check", "compose", "parse"]


def check(argv: Sequence[str], made: Sequence[Path] = (), *, machine: bool = True) -> Iterator[Finding]:
    """Everything that is known about a command before it starts.

    Args:
        argv: the command; one that is no training of verl has its program looked up, nothing more.
        made: folders that earlier commands fill: what is not there yet in them is no fault.
        machine: also look at this machine: packages, GPUs, keys, services, tools.
    """
    command = parse(argv)
    if command is None:
        yield here.check_program(argv)
        return
    try:
        config = compose(command)
    except ValueError as error:
        message, _, advice = str(error).rpartition("\n")
        yield problem("config", message, advice)
        return
    folder = Path(config.trainer.default_local_dir)
    for found in training_folder.objections(folder, training_folder.settings_of(config, command.kind), config, command):
        yield problem("trainer.default_local_dir", found)
    yield from check_config(config, command.kind, [folder.absolute() for folder in made])
    if machine:
        yield from here.check_machine(config, command.kind)
