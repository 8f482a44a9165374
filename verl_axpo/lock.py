"""One owner for a folder, or for a file: a file that the owner keeps locked for as long as it lives.

The kernel lets go of the lock when the process ends, however it ends, so nothing has to be cleaned up.
"""

import fcntl
import logging
import os
import socket
import time
from pathlib import Path
from typing import IO, Any, TextIO

logger = logging.getLogger(__name__)

NAME = "run.lock"
_held: dict[Path, TextIO] = {}  # open for the life of the process: closing a file gives its lock up


class FolderInUseError(RuntimeError):
    """Another process owns the folder."""


def take_lock(file: IO[Any]) -> bool:
    """Lock an open file; False where another process has it. A file system without locks refuses nobody."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        logger.warning("%s cannot be locked (%s): a second owner would not be refused", file.name, error)
    return True


def own(folder: str | Path) -> None:
    """Make `folder`, if it is not there, and own it until this process ends. Again in the same process: nothing.

    Raises:
        FolderInUseError: another process owns it; the message has its pid, host and start.
    """
    path = Path(folder).resolve() / NAME
    if path in _held:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    if not take_lock(file):
        file.seek(0)
        owner = file.read().strip()
        file.close()
        raise FolderInUseError(
            f"{path.parent} belongs to another run, {owner or 'which has not said its name yet'}; wait for its end, "
            "stop it with Ctrl-C or kill -INT, or give this run another folder"
        )
    file.truncate(0)
    file.write(f"pid {os.getpid()} on {socket.gethostname()}, started {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    file.flush()
    _held[path] = file


def give_up(folder: str | Path) -> None:
    """Let another process own `folder`; it is ours."""
    _held.pop(Path(folder).resolve() / NAME).close()


def is_free(folder: str | Path) -> bool:
    """Whether an owner of `folder` has been and gone; a folder that nobody has owned yet may be in the making."""
    try:
        with (Path(folder) / NAME).open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.seek(0)
            return bool(file.read())
    except OSError:
        return False
