"""Programs that look for the host's files, secrets and devices, or rearrange what they see."""

from tests.unit.tools.attacks.corpus import Attack

FILES = {
    "writing to home": Attack(
        code="""
import pathlib
for folder in (os.path.dirname(host_file), "/root", "/home", "/etc", "/usr/lib", "/", "/sandbox", "/var",
               "/sandbox/site", os.path.dirname(os.__file__), "/dev", "/dev/shm", "/run"):
    must_fail("write " + folder, pathlib.Path(folder, "axpo-attack").write_text, "x")
"""
    ),
    "reading secrets": Attack(
        code="""
for path in (host_file, "/etc/passwd", "/etc/shadow", "/root/.bashrc", "/root/.ssh", "/home"):
    must_fail("read " + path, open, path)
for path in ("/root", "/home", "/var", "/opt", "/mnt", "/srv", "/sys", "/run", os.path.dirname(host_file)):
    must_fail("list " + path, os.listdir, path)
"""
    ),
    "environment of the host": Attack(
        code="""
if "AXPO_CANARY" in os.environ or libc.getenv(b"AXPO_CANARY"):
    print("ESCAPED environment")
"""
    ),
    "other processes' environment": Attack(
        code="""
seen = []
for pid in ["self", "thread-self", host_pid, os.getppid(), *range(1, 3000)]:
    for name in ("environ", "mem", "maps", "cmdline", "root", "cwd", "fd"):
        path = f"/proc/{pid}/{name}"
        try:
            data = os.listdir(path) if name in ("root", "cwd", "fd") else open(path, "rb").read(4096)
        except OSError:
            continue
        if str(pid) not in ("self", "thread-self", str(os.getpid())):
            seen.append(path)
if seen:
    print("ESCAPED", seen[:5])
"""
    ),
    "kernel settings": Attack(
        code="""
for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory", "/proc/sysrq-trigger",
             "/sys/fs/cgroup/cgroup.procs", "/proc/self/oom_score_adj", "/proc/self/uid_map"):
    must_fail("write " + path, lambda: open(path, "w").write("1"))
"""
    ),
    "symbolic links": Attack(
        code="""
os.symlink(host_file, "link")
must_fail("link", open, "link")
os.symlink("/", "root")
must_fail("link to /", open, "root" + host_file)
must_fail("hard link", os.link, "/etc/passwd", "hard")
must_fail("dots", open, "../" * 20 + host_file)
root = os.open("/", os.O_PATH)
must_fail("folder descriptor", lambda: open(host_file[1:], opener=lambda p, f: os.open(p, f, dir_fd=root)))
"""
    ),
    "mounting": Attack(
        code="""
os.makedirs("m", exist_ok=True)
for name, arguments in {
    "tmpfs": (b"t", b"m", b"tmpfs", 0, None),
    "proc": (b"p", b"m", b"proc", 0, None),
    "bind": (b"/", b"m", None, 4096, None),
    "remount": (None, b"/", None, 32, None),
}.items():
    if libc.mount(*arguments) == 0:
        print("ESCAPED mount", name)
for target in (b"/proc", b"/tmp", b"/"):
    if libc.umount2(target, 2) == 0:
        print("ESCAPED umount", target)
must_fail("chroot", os.chroot, ".")
syscall_must_fail("pivot_root", 155, b".", b".")
for number in (428, 429, 430, 432, 433, 442):
    syscall_must_fail("new mount calls", number, 0, 0, 0, 0, 0)
"""
    ),
    "new namespaces": Attack(
        code="""
for flag in (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000, 0x2000000, 0x10020000):
    if libc.unshare(flag) == 0:
        print("ESCAPED unshare", hex(flag))
    if libc.setns(0, flag) == 0:
        print("ESCAPED setns")
"""
    ),
    "becoming root": Attack(
        code="""
if os.getuid() != 0:
    must_fail("setuid", os.setuid, 0)
    must_fail("setgid", os.setgid, 0)
if os.getpid() == 1:
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 6)
    if libc.capset(header, data) == 0:
        print("ESCAPED capset")
    if libc.prctl(28, 0, 0, 0, 0) == 0:
        print("ESCAPED securebits")
"""
    ),
    "devices": Attack(
        code="""
import stat
for path in ("/dev/mem", "/dev/kmsg", "/dev/tty", "/dev/ptmx", "/dev/vda", "/dev/sda",
             "/dev/kvm", "/dev/fuse", "/dev/vsock"):
    must_fail(path, open, path, "rb")
try:
    os.mknod("null", 0o600 | stat.S_IFCHR, os.makedev(1, 1))
    must_fail("device node", open, "null", "rb")
except OSError:
    pass
"""
    ),
    "the rest of the environment": Attack(
        code="""
for name in ("verl", "torch", "ray", "verl_axpo", "transformers", "pytest"):
    must_fail("import " + name, __import__, name)
"""
    ),
    "planting a module": Attack(
        code="""
for folder in sys.path:
    must_fail("plant in " + folder, lambda: open(os.path.join(folder or "/", "planted.py"), "w"))
"""
    ),
    "modes, times and attributes of the host's files": Attack(
        code="""
for path in (host_file, os.path.dirname(host_file), os.__file__, os.path.dirname(os.__file__), "/", "/dev/null"):
    must_fail("chmod", os.chmod, path, 0o777)
    must_fail("chown", os.chown, path, os.getuid(), os.getgid())
    must_fail("utime", os.utime, path)
    must_fail("setxattr", os.setxattr, path, "user.axpo", b"x")
    must_fail("removexattr", os.removexattr, path, "user.axpo")
library = os.open(os.__file__, os.O_RDONLY)
must_fail("fchmod", os.fchmod, library, 0o777)
must_fail("futimens", os.utime, library)
must_fail("fsetxattr", os.setxattr, library, "user.axpo", b"x")
syscall_must_fail("fchmodat2", 452, library, b"", 0o777, 0x1000)
"""
    ),
    "locking out the host": Attack(
        code="""
for path in (".", os.getcwd(), os.environ["HOME"]):
    try:
        os.chmod(path, 0)
    except PermissionError:
        pass
os.umask(0o777)
try:
    os.mkdir("closed", 0)
except PermissionError:
    pass
""",
    ),
    "locking out a neighbour": Attack(
        code="""
for number in range(40):
    if os.path.realpath(f"../{number}") != os.getcwd():
        must_fail("chmod", os.chmod, f"../{number}", 0)
must_fail("chmod", os.chmod, "..", 0o777)
"""
    ),
    "locks on library files": Attack(
        code="""
import fcntl
library = open(os.__file__)
for kind in (fcntl.LOCK_SH, fcntl.LOCK_EX):
    must_fail("flock", fcntl.flock, library, kind | fcntl.LOCK_NB)
must_fail("lockf", fcntl.lockf, library, fcntl.LOCK_SH | fcntl.LOCK_NB)
must_fail("a lock of the open file", fcntl.fcntl, library, 37, bytes(32))
folder = os.open(os.path.dirname(os.__file__), os.O_RDONLY)
must_fail("a lock of a folder", fcntl.flock, folder, fcntl.LOCK_SH | fcntl.LOCK_NB)
"""
    ),
}
