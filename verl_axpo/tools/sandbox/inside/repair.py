"""Puts the interpreter back in order between two cells, as far as Python can, and tells when it cannot.

cell -> Repair.put_back() -> hooks, limits, signals and builtins as at the start -> the next cell
"""

import builtins
import signal
import sys

from . import confine

_IGNORED = {signal.SIGPIPE, signal.SIGXFSZ}  # Python's own choice: they become BrokenPipeError and OSError
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_FIXED = {signal.SIGKILL, signal.SIGSTOP}


class Repair:
    """Remembers the interpreter as it is when this is made."""

    def __init__(self) -> None:
        self.builtins = dict(vars(builtins))
        self.recursion_limit = sys.getrecursionlimit()
        self.switch_interval = sys.getswitchinterval()
        self.stdin = sys.stdin

    def put_back(self) -> None:
        """Undo what would reach into the next cell. Variables, imports and the working directory are state: kept."""
        sys.settrace(None)
        sys.setprofile(None)
        for timer in _TIMERS:
            signal.setitimer(timer, 0)
        sys.setrecursionlimit(self.recursion_limit)
        sys.setswitchinterval(self.switch_interval)
        sys.stdin = self.stdin
        vars(builtins).update(self.builtins)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number in signal.valid_signals() - _FIXED:
            signal.signal(number, signal.SIG_IGN if number in _IGNORED else signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        confine.report_aborts()
