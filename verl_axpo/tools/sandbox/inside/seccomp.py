"""The filter on a worker's system calls, as a classic BPF program for the calling process.

    syscalls.py: names, numbers, checks of arguments -> program() -> prctl(PR_SET_SECCOMP)

An allow list: a call that nobody thought of, or that a later kernel adds, is refused. It is the wall against what
namespaces, Landlock and rlimits leave open: new processes (so that one process is all there is to limit and to kill),
other processes' limits and priorities, metadata and locks of files that can only be read, sockets, memory and kernel
tables that no limit counts. Refused calls fail with EPERM, which Python shows as PermissionError.
"""

import ctypes
import errno
import platform
import struct

from . import confine
from .syscalls import ALLOWED, ARGUMENTS, CHECKED, CLONE3, MACHINES, Check, numbers

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
_X32_BIT = 0x40000000  # x86_64's second numbering of the same calls
_LD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06  # linux/bpf_common.h, absolute words and constants
_NR, _ARCH, _ARGUMENT, _ARGUMENT_BYTES = 0, 4, 16, 8  # offsets in struct seccomp_data; low words come first
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_REFUSE, _UNKNOWN = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
_STEP_BYTES = 8
_SOME_PID = 0x7FFFFFFD  # in the place of the worker's; Linux has numbers up to 2**22, and no other constant is the same

Instruction = tuple[int, int, int, int]


def program(machine: str, pid: int = 1) -> list[Instruction]:
    """The filter as (code, jump if true, jump if false, constant).

    Args:
        machine: architecture, as `platform.machine` names it.
        pid: the worker's process number, the only one it may name; 0 is itself too.

    Raises:
        OSError: an architecture whose numbers are not listed.
    """
    if machine not in MACHINES:
        raise OSError(errno.ENOSYS, f"no system call table for {machine}; have {list(MACHINES)}")
    filters: list[Instruction] = [
        (_LD, 0, 0, _ARCH),
        (_JEQ, 1, 0, _AUDIT_ARCH[machine]),
        (_RET, 0, 0, _KILL),
        (_LD, 0, 0, _NR),
        (_JGE, 0, 1, _X32_BIT),
        (_RET, 0, 0, _REFUSE),
        (_JEQ, 0, 1, CLONE3),
        (_RET, 0, 0, _UNKNOWN),
    ]
    for name, number in numbers(CHECKED, machine).items():
        body = [step for check in ARGUMENTS[name] for step in _checked(check, pid)]
        filters += [(_JEQ, 0, len(body) + 1, number), *body, (_RET, 0, 0, _ALLOW)]
    return filters + _one_of(set(numbers(ALLOWED, machine).values()))


def _checked(check: Check, pid: int) -> list[Instruction]:
    """Refuses unless the argument fits; else goes on with the instruction after these."""
    load, refuse = (_LD, 0, 0, _ARGUMENT + _ARGUMENT_BYTES * check.argument), (_RET, 0, 0, _REFUSE)
    if check.has:
        return [load, (_JSET, 1, 0, check.has), refuse]
    if check.lacks:
        return [load, (_JSET, 0, 1, check.lacks), refuse]
    values = (0, pid) if check.own_process else check.among
    return [load, *((_JEQ, len(values) - at, 0, value) for at, value in enumerate(values)), refuse]


def _one_of(allowed: set[int]) -> list[Instruction]:
    """Allows these numbers and refuses all others, by the numbers at which the verdict changes."""
    filters: list[Instruction] = []
    for number in sorted(edge for edge in allowed | {number + 1 for number in allowed}):
        before, here = number - 1 in allowed, number in allowed
        if before != here:
            filters += [(_JGE, 1, 0, number), (_RET, 0, 0, _ALLOW if before else _REFUSE)]
    return [*filters, (_RET, 0, 0, _REFUSE)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filters", ctypes.c_char_p)]


class Filter:
    """The program, made once in the parent, for any worker.

    Raises:
        OSError: see `program`.
    """

    def __init__(self) -> None:
        self.code = b"".join(struct.pack("=HBBI", *step) for step in program(platform.machine(), _SOME_PID))

    def install(self, pid: int) -> None:
        """Apply the filter to this process, for good; `pid` is its own number.

        Raises:
            OSError: the kernel does not support it.
        """
        code = self.code.replace(struct.pack("=I", _SOME_PID), struct.pack("=I", pid))
        loaded = _Program(len(code) // _STEP_BYTES, code)
        confine.filter_calls(ctypes.byref(loaded))
