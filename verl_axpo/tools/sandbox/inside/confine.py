"""What a worker gives up before it runs anybody's code; all of it irrevocable.

    every backend:       own_session()
    namespaces backend:  new_namespaces() -> private_mounts()
    landlock backend:    LandlockRules.apply()
    every backend:       drop_capabilities() -> set_limits() -> die_with_parent() -> seccomp.install()

With namespaces the parent forks the worker into a process namespace of its own (`ProcessNamespaces`), as process 1: it
can name no other process, and nothing outlives it.
"""

import ctypes
import errno
import os
import resource
import signal
import stat
import struct
from collections.abc import Mapping, Sequence

# sandlock refuses unshare(CLONE_FILES); closing nothing has the same effect. The same number on all architectures
_CLOSE_RANGE, _CLOSE_RANGE_UNSHARE, _LAST_DESCRIPTOR = 436, 2, 2**31 - 1
_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 1, 2, 4, 8, 16384, 1 << 18
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 22, 24, 38
_SECCOMP_MODE_FILTER = 2
_LAST_CAP = 63
_CAP_VERSION_3 = 0x20080522
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # linux/landlock.h, the same numbers on all architectures
_VERSION_FLAG, _RULE_PATH_BENEATH = 1, 1
_ABI = 6  # Linux 6.12: the first with scopes
_ALL_FILES, _ALL_NETWORK, _ALL_SCOPES = 2**16 - 1, 2**2 - 1, 2**2 - 1  # access rights of that version
_EXECUTE, _READ_FILE, _READ_FOLDER = 1 << 0, 1 << 2, 1 << 3
_DEVICES, _IOCTL = sum(1 << bit for bit in (6, 9, 10, 11)), 1 << 15  # make a device, socket or pipe; talk to one
SCRATCH_INODES = 4096  # files in a trajectory's scratch space
ABORT_STATUS = int(signal.SIGABRT)
PENDING_SIGNALS = 64  # queued signals: the kernel counts them for the user, not for the process

_libc = ctypes.CDLL(None, use_errno=True)
_CAP_HEADER, _NO_CAPABILITIES = (ctypes.c_uint32 * 2)(_CAP_VERSION_3, 0), (ctypes.c_uint32 * 6)()


def _check(result: int, what: str) -> int:
    """The result of a C function, unless it is an error."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)} ({errno.errorcode.get(number, '?')})")
    return result


class ProcessNamespaces:
    """Puts each child that the parent forks into a new process namespace.

    Raises:
        OSError: the parent lacks CAP_SYS_ADMIN in its own user namespace.
    """

    def __init__(self) -> None:
        self.own = os.open("/proc/self/ns/pid", os.O_RDONLY)

    def fork(self) -> int:
        """`os.fork`, with the child as process 1 of a new namespace."""
        _check(_libc.unshare(_CLONE_NEWPID), "unshare(CLONE_NEWPID)")
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid != 0:
                _check(_libc.setns(self.own, _CLONE_NEWPID), "setns(CLONE_NEWPID)")
        return pid


def own_session() -> None:
    """Leave the parent's process group: a signal or a priority for the group is for this process alone."""
    os.setsid()


def new_namespaces() -> None:
    """New user and mount namespaces for this process; limits of a user are then counted for it alone.

    Raises:
        OSError: the host forbids nested user namespaces.
    """
    uid, gid = os.geteuid(), os.getegid()
    _check(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def private_mounts(scratch: str, megabytes: int) -> None:
    """A file system of its own at `scratch`, and nothing at /proc: neither processes nor kernel settings.

    Raises:
        OSError: a mount was refused.
    """
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE, None)
    options = f"size={megabytes}m,nr_inodes={SCRATCH_INODES},mode=700"
    _mount("tmpfs", scratch, "tmpfs", _MS_NOSUID | _MS_NODEV, options)
    _mount("tmpfs", "/proc", "tmpfs", _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "size=4k,nr_inodes=2")


def _mount(source: str, target: str, kind: str | None, flags: int, options: str | None) -> None:
    texts = [text.encode() if text is not None else None for text in (source, target, kind, options)]
    _check(_libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]), f"mount on {target}")


class LandlockRules:
    """The files that all workers may read, and their own folder; nobody's signals or sockets but their own.

    Around the parent `sandlock` sets the same kind of rules; here only the worker's own folder can be written. The
    parent opens the paths, for under sandlock each open is a question to its supervisor.

    Args:
        readable: files and folders, with all below them.

    Raises:
        OSError: the kernel's Landlock is older than Linux 6.12, or a path is missing.
    """

    def __init__(self, readable: Sequence[str]) -> None:
        version = _landlock(_CREATE_RULESET, None, 0, _VERSION_FLAG)
        if version < _ABI:
            raise OSError(errno.ENOSYS, f"Landlock version {version}; version {_ABI} (Linux 6.12) is needed")
        self.readable = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in readable]

    def apply(self, scratch: str) -> None:
        """Confine this process to them and its own folder `scratch`."""
        attributes = struct.pack("=QQQ", _ALL_FILES, _ALL_NETWORK, _ALL_SCOPES)
        ruleset = _landlock(_CREATE_RULESET, attributes, len(attributes), 0)
        for path in self.readable:
            folder = stat.S_ISDIR(os.fstat(path).st_mode)
            _allow(ruleset, path, _EXECUTE | _READ_FILE | (_READ_FOLDER if folder else 0))
        own = os.open(scratch, os.O_PATH)
        _allow(ruleset, own, _ALL_FILES & ~_DEVICES & ~_IOCTL)
        no_new_privileges()
        _landlock(_RESTRICT_SELF, ruleset, 0)
        os.close(own)
        os.close(ruleset)


def _allow(ruleset: int, path: int, rights: int) -> None:
    _landlock(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", rights, path), 0)


def _landlock(number: int, *arguments: int | bytes | None) -> int:
    return _check(int(_libc.syscall(number, *arguments)), f"landlock call {number}")


def no_new_privileges() -> None:
    """No program that this process starts has more rights than it has; the kernel asks for that before its filters."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")


def filter_calls(program: object) -> None:
    """Let the kernel judge each system call by a BPF program, given as a pointer to `struct sock_fprog`."""
    no_new_privileges()
    _check(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0), "prctl(PR_SET_SECCOMP)")


def drop_capabilities() -> None:
    """Give up every capability, a new user namespace's or root's. For good: no_new_privs, and no program is started."""
    for capability in range(_LAST_CAP + 1):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break  # past the kernel's last one, or an ordinary user, who has none to give
    _check(_libc.capset(_CAP_HEADER, _NO_CAPABILITIES), "capset")


def die_with_parent() -> None:
    """Be killed with the parent, whatever ends that. Comes after all changes of credentials: they undo it."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def own_descriptors() -> None:
    """A table of file descriptors for the calling thread alone: other threads keep the one there was."""
    _check(_libc.syscall(_CLOSE_RANGE, _LAST_DESCRIPTOR, _LAST_DESCRIPTOR, _CLOSE_RANGE_UNSHARE), "close_range")


def report_aborts() -> None:
    """Let `abort` end this process with ABORT_STATUS: process 1 of a namespace ignores the signal, and would crash."""
    _libc.signal(signal.SIGABRT, ctypes.cast(_libc._exit, ctypes.c_void_p))


def set_limits(limits: Mapping[str, int], threads_counted: bool) -> None:
    """Kernel limits of this process.

    Args:
        limits: `memory_mb` on top of what the pre-imported parent has mapped (`base_bytes`), `cpu_s`, `scratch_mb`,
            `open_files`, `threads`.
        threads_counted: whether the kernel counts this trajectory's threads apart from the user's other processes.
    """
    megabyte = 2**20
    values = {
        resource.RLIMIT_AS: limits["base_bytes"] + limits["memory_mb"] * megabyte,
        resource.RLIMIT_CPU: limits["cpu_s"],
        resource.RLIMIT_FSIZE: limits["scratch_mb"] * megabyte,
        resource.RLIMIT_NOFILE: limits["open_files"],
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_SIGPENDING: PENDING_SIGNALS,
    }
    if threads_counted:
        values[resource.RLIMIT_NPROC] = limits["threads"] + 1
    for kind, value in values.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
