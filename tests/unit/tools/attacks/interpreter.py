"""Programs that wreck the interpreter they run in."""

from tests.unit.tools.attacks.corpus import Attack

INTERPRETER = {
    "os._exit": Attack(code="os._exit(0)", ends=("died",), says="its variables are lost".capitalize()),
    "os._exit with a status": Attack(code="os._exit(3)", ends=("died",), says="status 3"),
    "abort": Attack(code="os.abort()", ends=("died",), says="ended by SIGABRT"),
    "abort in C": Attack(code="libc.abort()", ends=("died",), says="ended by SIGABRT"),
    "segmentation fault": Attack(code="ctypes.string_at(0)", ends=("died",), says="SIGSEGV"),
    "illegal memory": Attack(
        code="ctypes.memset(id(int), 0, 200)\nint('5')", ends=("died", "error", "ok", "timeout"), timeout_s=2
    ),
    "C stack overflow": Attack(
        code="sys.setrecursionlimit(10**9)\nclass A:\n    def __repr__(self): return repr(self)\nrepr(A())",
        ends=("died", "error"),
    ),
    "deleting builtins": Attack(code="import builtins\nvars(builtins).clear()", ends=("ok", "error", "died")),
    "replacing builtins": Attack(
        code="import builtins\nbuiltins.len = builtins.isinstance = builtins.repr = lambda *a: os._exit(1)",
        ends=("ok", "died"),
    ),
    "deleting modules": Attack(code="sys.modules.clear()", ends=("ok", "error", "died")),
    "clearing the namespace": Attack(code="globals().clear()", ends=("ok", "error")),
    "sys.exit": Attack(code="sys.exit()"),
    "sys.exit with a message": Attack(code="sys.exit('bye')", ends=("error",), says="bye"),
    "KeyboardInterrupt": Attack(code="raise KeyboardInterrupt", ends=("error",), says="KeyboardInterrupt"),
    "GeneratorExit": Attack(code="raise GeneratorExit", ends=("error",), says="GeneratorExit"),
    "endless recursion": Attack(code="def f(): f()\nf()", ends=("error",), says="RecursionError"),
    "code that is too deep": Attack(code="eval('(' * 100_000)", ends=("error", "died")),
    "code with a zero byte": Attack(code="1\0", ends=("error",)),
    "a trace function": Attack(
        code="def trace(*a): raise SystemExit\nsys.settrace(trace)", ends=("ok", "error", "died")
    ),
    "a profile function": Attack(code="sys.setprofile(lambda *a: os._exit(0))", ends=("ok", "died")),
    "an audit hook": Attack(
        code="def hook(*a): raise MemoryError\nsys.addaudithook(hook)", ends=("ok", "error", "died")
    ),
    "recursion limit of one": Attack(code="sys.setrecursionlimit(50)", ends=("ok", "error", "died")),
    "destructor that raises": Attack(code="class X:\n    def __del__(self): raise SystemExit\nX() and None"),
    "frozen time": Attack(code="import time; time.sleep = time.time = None; sys.setswitchinterval(10**6)"),
    "alarm": Attack(code="import signal; signal.setitimer(signal.ITIMER_REAL, 0.2)", pause_s=0.6),
    "signal handler for later": Attack(
        code="""
import signal
def later(*a): raise MemoryError("from an earlier call")
signal.signal(signal.SIGALRM, later)
signal.setitimer(signal.ITIMER_REAL, 0.2)
""",
        pause_s=0.6,
    ),
    "changing folder": Attack(code="os.chdir('/')", ends=("ok", "error")),
    "posing as the kernel": Attack(code="sys.modules['__main__'] = sys.modules['inside.kernel']"),
}
