"""The system calls that code of a model gets refused, as a classic BPF program for the calling process.

    names -> numbers of this machine's architecture -> BPF -> prctl(PR_SET_SECCOMP)

A deny list, because what scientific libraries call is open-ended; the walls are namespaces, Landlock and rlimits. The
list takes away what those leave open: new processes (so that one process is all there is to limit and to kill), sockets
of families that network namespaces do not cover, memory that rlimits do not count, and the kernel interfaces with the
longest record of holes. Refused calls fail with EPERM, which Python shows as PermissionError.
"""

import ctypes
import errno
import platform
import struct

# name -> (x86_64, aarch64); None where the architecture lacks it
_DENIED: dict[str, tuple[int | None, int | None]] = {
    # processes; `clone` is looked at more closely below, since threads need it
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    # network; socketpair stays, asyncio needs it
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    # memory outside RLIMIT_AS and the scratch space
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    # namespaces and mounts
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    # kernel interfaces that arithmetic does not need; keyrings are shared by all processes of a user
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "syslog": (103, 116),
    "fanotify_init": (300, 262),
    "modify_ldt": (154, None),
}
_CLONE, _CLONE3 = (56, 220), 435
_CLONE_THREAD = 0x00010000
_AUDIT_ARCH = (0xC000003E, 0xC00000B7)  # linux/audit.h
_X32_BIT = 0x40000000  # x86_64's second numbering of the same calls
_MACHINES = ("x86_64", "aarch64")

_LD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06  # linux/bpf_common.h, absolute words and constants
_NR, _ARCH, _ARG0 = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2

Instruction = tuple[int, int, int, int]


def program(machine: str) -> list[Instruction]:
    """The filter as (code, jump if true, jump if false, constant).

    Raises:
        OSError: an architecture whose numbers are not listed.
    """
    if machine not in _MACHINES:
        raise OSError(errno.ENOSYS, f"no system call table for {machine}; have {list(_MACHINES)}")
    column = _MACHINES.index(machine)
    filters: list[Instruction] = [
        (_LD, 0, 0, _ARCH),
        (_JEQ, 1, 0, _AUDIT_ARCH[column]),
        (_RET, 0, 0, _KILL),
        (_LD, 0, 0, _NR),
    ]
    if machine == "x86_64":
        filters += [(_JGE, 0, 1, _X32_BIT), (_RET, 0, 0, _ERRNO | errno.EPERM)]
    # the C library falls back to clone, whose flags a filter can read, only if clone3 does not exist
    filters += [(_JEQ, 0, 1, _CLONE3), (_RET, 0, 0, _ERRNO | errno.ENOSYS)]
    for numbers in _DENIED.values():
        number = numbers[column]
        if number is not None:
            filters += [(_JEQ, 0, 1, number), (_RET, 0, 0, _ERRNO | errno.EPERM)]
    filters += [
        (_JEQ, 0, 3, _CLONE[column]),
        (_LD, 0, 0, _ARG0),
        (_JSET, 1, 0, _CLONE_THREAD),
        (_RET, 0, 0, _ERRNO | errno.EPERM),
        (_RET, 0, 0, _ALLOW),
    ]
    return filters


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filters", ctypes.c_char_p)]


def install() -> None:
    """Apply the filter to this process, for good.

    Raises:
        OSError: the kernel or the architecture does not support it.
    """
    code = b"".join(struct.pack("=HBBI", *one) for one in program(platform.machine()))
    loaded = _Program(length=len(code) // 8, filters=code)
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(loaded), 0, 0)):
        if libc.prctl(*arguments) != 0:
            code_number = ctypes.get_errno()
            raise OSError(code_number, "seccomp filter refused: " + errno.errorcode.get(code_number, "?"))
