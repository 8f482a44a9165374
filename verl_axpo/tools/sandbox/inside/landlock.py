"""Landlock rules for a worker: the files it may read, its scratch folder, nobody's signals or sockets but its own.

    parent: Rules(readable) opens each path once -> worker: Rules.apply(scratch), for good

In the parent's place `sandlock` sets the same kind of rules; this repeats them with the worker's own folder as the only
one to write to. The parent opens the paths, for under sandlock each open is a question to its supervisor.
"""

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Sequence

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # linux/landlock.h, the same numbers on all architectures
_VERSION_FLAG, _RULE_PATH_BENEATH = 1, 1
_PR_SET_NO_NEW_PRIVS = 38
_ABI = 6  # Linux 6.12: the first with scopes
_ALL_FILES, _ALL_NETWORK, _ALL_SCOPES = 2**16 - 1, 2**2 - 1, 2**2 - 1  # access rights of that version
_EXECUTE, _READ_FILE, _READ_FOLDER = 1 << 0, 1 << 2, 1 << 3
_DEVICES, _IOCTL = sum(1 << bit for bit in (6, 9, 10, 11)), 1 << 15  # make a device, socket or pipe; talk to one


class Rules:
    """What all workers may read.

    Args:
        readable: files and folders, with all below them.

    Raises:
        OSError: the kernel's Landlock is older than Linux 6.12, or a path is missing.
    """

    def __init__(self, readable: Sequence[str]) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        version = self._call(_CREATE_RULESET, None, 0, _VERSION_FLAG)
        if version < _ABI:
            raise OSError(errno.ENOSYS, f"Landlock version {version}; version {_ABI} (Linux 6.12) is needed")
        self.readable = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in readable]

    def apply(self, scratch: str) -> None:
        """Confine this process to them and its own folder `scratch`."""
        attributes = struct.pack("=QQQ", _ALL_FILES, _ALL_NETWORK, _ALL_SCOPES)
        ruleset = self._call(_CREATE_RULESET, attributes, len(attributes), 0)
        for path in self.readable:
            folder = stat.S_ISDIR(os.fstat(path).st_mode)
            self._allow(ruleset, path, _EXECUTE | _READ_FILE | (_READ_FOLDER if folder else 0))
        own = os.open(scratch, os.O_PATH)
        self._allow(ruleset, own, _ALL_FILES & ~_DEVICES & ~_IOCTL)
        if self.libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
        self._call(_RESTRICT_SELF, ruleset, 0)
        os.close(own)
        os.close(ruleset)

    def _allow(self, ruleset: int, path: int, rights: int) -> None:
        self._call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", rights, path), 0)

    def _call(self, number: int, *arguments: int | bytes | None) -> int:
        result = int(self.libc.syscall(number, *arguments))
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"landlock call {number}: {os.strerror(code)}")
        return result
