"""Programs that act on other processes by their numbers: signals, limits, priorities, and queues."""

from tests.unit.tools.attacks.corpus import Attack

# Everybody whom hostile code could name: the trainer, a bystander, its parent, process 1, a group and a user
_EVERYBODY = "everybody = {trainer_pid, host_pid, os.getppid(), 1} - {0, os.getpid()}\n"

OTHERS = {
    "killing its group": Attack(code="os.kill(0, 9)", ends=("ok", "died")),
    "stopping its group": Attack(code="os.kill(0, 19)", ends=("ok", "timeout"), timeout_s=0.5),
    "ending its group by number": Attack(
        code="""
import signal
for number in (signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL):
    for group in {os.getpgrp(), os.getpgid(0), os.getsid(0)}:
        try:
            os.killpg(group, number)
        except PermissionError:
            pass
"""
    ),
    "signals to others": Attack(
        code=_EVERYBODY
        + """
info = ctypes.create_string_buffer(128)
ctypes.cast(info, ctypes.POINTER(ctypes.c_int))[2] = -1  # SI_QUEUE
for pid in everybody | {-1, -2, -os.getppid()} - {0}:
    must_fail("kill", os.kill, pid, 0)
    syscall_must_fail("tkill", 200, pid, 0)
    syscall_must_fail("tgkill", 234, pid, pid, 0)
    syscall_must_fail("rt_sigqueueinfo", 129, pid, 10, info)
    syscall_must_fail("rt_tgsigqueueinfo", 297, pid, pid, 10, info)
    syscall_must_fail("pidfd_open", 434, pid, 0)
"""
    ),
    "signals by descriptor": Attack(
        code="""
import fcntl, socket
pair = socket.socketpair()
for command, value in ((8, trainer_pid), (8, -os.getpid()), (10, 9), (15, bytes(8))):  # owner, signal, owner's kind
    must_fail("fcntl", fcntl.fcntl, pair[0], command, value)
for request in (0x8901, 0x8902, 0x5452):  # owner, owner, signals on
    must_fail("ioctl", fcntl.ioctl, pair[0], request, (1).to_bytes(4, "little"))
must_fail("lease", fcntl.fcntl, os.open(os.__file__, os.O_RDONLY), 1024, 0)
must_fail("watch", fcntl.fcntl, os.open(".", os.O_RDONLY), 1026, 1)
"""
    ),
    "a real-time signal": Attack(code="os.kill(os.getpid(), 40)", ends=("ok", "died")),
    "a queue full of signals": Attack(
        code="""
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [40])
info = ctypes.create_string_buffer(128)
ctypes.cast(info, ctypes.POINTER(ctypes.c_int))[2] = -1  # SI_QUEUE
queued = sum(libc.syscall(129, os.getpid(), 40, info) == 0 for _ in range(5000))
if queued > 100:
    print("ESCAPED queued", queued)
os._exit(0)
""",
        ends=("died",),
    ),
    "limits of others": Attack(
        code=_EVERYBODY
        + """
import resource
for pid in everybody:
    for kind in (resource.RLIMIT_CPU, resource.RLIMIT_NOFILE, resource.RLIMIT_AS):
        must_fail("prlimit", resource.prlimit, pid, kind)
        must_fail("prlimit", resource.prlimit, pid, kind, (3, 3))
"""
    ),
    "the trainer by its end of the channel": Attack(
        code="""
import resource, socket, struct
def peers():
    for descriptor in range(3, 64):
        try:
            yield socket.socket(fileno=os.dup(descriptor)).getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        except OSError:
            pass
for credentials in peers():
    pid = struct.unpack("iii", credentials)[0]
    if pid not in (0, os.getpid()):
        must_fail("prlimit", resource.prlimit, pid, resource.RLIMIT_CPU, (1, 1))
"""
    ),
    "priorities of others": Attack(
        code=_EVERYBODY
        + """
for which, who in [(1, 0), (2, 0), (1, os.getpgrp()), (2, os.getuid()), *((0, pid) for pid in everybody)]:
    must_fail("setpriority", os.setpriority, which, who, 19)
for which, who in [(2, 0), (3, 0), (2, os.getpgrp()), (3, os.getuid()), *((1, pid) for pid in everybody)]:
    syscall_must_fail("ioprio_set", 251, which, who, 3 << 13)
"""
    ),
    "processors of others": Attack(
        code=_EVERYBODY
        + """
attributes = ctypes.create_string_buffer(48)
attributes[0] = 48
for pid in everybody:
    must_fail("affinity", os.sched_setaffinity, pid, {0})
    must_fail("scheduler", os.sched_setscheduler, pid, os.SCHED_BATCH, os.sched_param(0))
    must_fail("parameters", os.sched_setparam, pid, os.sched_param(0))
    syscall_must_fail("sched_setattr", 314, pid, attributes, 0)
"""
    ),
    "tables that all processes share": Attack(
        code="""
buffer = ctypes.create_string_buffer(256)
for name, number, *arguments in [
    ("io_setup", 206, 64_000, buffer), ("inotify_init", 253), ("inotify_init1", 294, 0),
    ("timer_create", 222, 0, 0, buffer), ("signalfd", 289, -1, buffer, 8, 0), ("mq_open", 240, b"q", 0o102, 0o600, 0),
    ("fanotify_init", 300, 0, 0), ("sync", 162), ("syncfs", 306, 1), ("quotactl", 179, 0, 0, 0, 0),
    ("sethostname", 170, b"x", 1), ("settimeofday", 164, buffer, 0), ("personality", 135, 0), ("mbind", 237, 0, 0, 0),
    ("landlock", 444, 0, 0, 1), ("a call of a later kernel", 600),
]:
    syscall_must_fail(name, number, *arguments)
must_fail("sendmsg", lambda: __import__("socket").socketpair()[0].sendmsg([b"x"]))
"""
    ),
    "huge pages": Attack(
        code="""
import mmap
must_fail("MAP_HUGETLB", lambda: mmap.mmap(-1, 2**21, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000))
"""
    ),
}
