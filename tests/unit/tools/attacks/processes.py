"""Programs that multiply, hide, refuse to die, or kill others."""

from tests.unit.tools.attacks.corpus import Attack

FOREVER = {"ends": ("timeout",), "timeout_s": 0.5}

PROCESSES = {
    "fork bomb": Attack(code="while True: os.fork()", ends=("error",), says="PermissionError"),
    "fork bomb in C": Attack(
        code="""
for _ in range(1000):
    if libc.fork() >= 0 or libc.vfork() >= 0:
        print("ESCAPED fork")
        break
"""
    ),
    "clone by number": Attack(
        code="""
SIGCHLD, NEWUSER, NEWPID = 17, 0x10000000, 0x20000000
for flags in (SIGCHLD, SIGCHLD | NEWUSER, SIGCHLD | NEWUSER | NEWPID, 0x4000 | SIGCHLD):
    syscall_must_fail("clone", 56, flags, 0, 0, 0, 0)
syscall_must_fail("clone3", 435, ctypes.create_string_buffer(88), 88)
"""
    ),
    "double fork and setsid": Attack(
        code="""
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import time
        time.sleep(3600)
    os._exit(0)
""",
        ends=("error",),
    ),
    "shell": Attack(
        code="""
import subprocess
must_fail("subprocess", subprocess.run, ["/bin/sh", "-c", "id"])
must_fail("posix_spawn", os.posix_spawn, sys.executable, [sys.executable, "-c", "0"], {})
if os.system("true") == 0:
    print("ESCAPED system")
"""
    ),
    "multiprocessing": Attack(
        code="""
import multiprocessing
must_fail("Process", multiprocessing.Process(target=print).start)
must_fail("Pool", multiprocessing.Pool, 2)
"""
    ),
    "another program in the worker's place": Attack(
        code='must_fail("exec", os.execv, sys.executable, [sys.executable, "-c", "while True: pass"])'
    ),
    "thread bomb": Attack(
        code="""
import threading
threading.stack_size(2**16)
stop = threading.Event()
try:
    for count in range(10_000):
        threading.Thread(target=stop.wait, daemon=True).start()
    print("ESCAPED", count, "threads" if os.getpid() == 1 else "")
except RuntimeError:
    print("refused after", count)
stop.set()
""",
        # sandlock bounds threads by memory alone: on a busy machine time is up first
        ends=("ok", "error", "died", "timeout"),
    ),
    "killing its parent": Attack(
        code="""
import signal
for target in (os.getppid(), host_pid, 0):
    if target not in (0, os.getpid()):
        must_fail("kill", os.kill, target, signal.SIGKILL)
"""
    ),
    "killing everybody": Attack(
        code="""
for pid in range(2, 70_000):
    if pid != os.getpid():
        try:
            os.kill(pid, 0)
            print("ESCAPED sees", pid)
            break
        except OSError:
            pass
try:
    os.kill(-1, 9)
except OSError:
    pass
""",
        ends=("ok", "died"),
    ),
    "stopping itself": Attack(
        code="os.kill(os.getpid(), 19); import time; time.sleep(3600)",
        **FOREVER,
    ),
    "killing itself": Attack(code="os.kill(os.getpid(), 9); import time; time.sleep(0.2)", ends=("ok", "died")),
    "blocking signals": Attack(
        code="""
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
while True: pass
""",
        **FOREVER,
    ),
    "infinite loop": Attack(code="while True: pass", **FOREVER),
    "infinite loop in C": Attack(code="import itertools; sum(itertools.repeat(0))", **FOREVER),
    "regular expression that explodes": Attack(code="import re; re.match('(a+)+$', 'a' * 60 + 'b')", **FOREVER),
    "a power of powers": Attack(code="9 ** 9 ** 9", ends=("timeout", "error"), timeout_s=1.0),
    "sleeping": Attack(code="import time; time.sleep(3600)", **FOREVER),
    "catching everything": Attack(
        code="""
while True:
    try:
        while True: pass
    except BaseException:
        pass
""",
        **FOREVER,
    ),
    "a thread that goes on": Attack(
        code="""
import threading, time
def chatter():
    time.sleep(0.3)
    while True:
        print("ESCAPED from an earlier call")
        time.sleep(0)
threading.Thread(target=chatter, daemon=True).start()
""",
        pause_s=0.5,
    ),
    "a thread that goes on past Python": Attack(
        code="""
import threading, time
def chatter():
    time.sleep(0.3)
    while True:
        os.write(1, b"ESCAPED from an earlier call")
        os.write(2, b"ESCAPED from an earlier call")
        time.sleep(0)
threading.Thread(target=chatter, daemon=True).start()
""",
        pause_s=0.5,
    ),
    "a thread that ends the process later": Attack(
        code="import threading; threading.Timer(0.2, os._exit, [0]).start()", pause_s=0.6
    ),
    "atexit": Attack(code="import atexit; atexit.register(lambda: open(host_file, 'w').write('x'))"),
}
