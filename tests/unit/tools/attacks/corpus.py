"""An attack is a program, the ways in which its call may end, and the things that it may use.

Every program may use what `PRELUDE` defines. One that reaches what it should not prints ESCAPED; the test looks for
that word, for the end, and at everybody else.
"""

from dataclasses import dataclass

ESCAPED = "ESCAPED"

# host_file, host_port, host_socket, host_pid: things of the host that exist, set in front of this by the test
PRELUDE = f"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def must_fail(what, action, *arguments, **keywords):
    try:
        result = action(*arguments, **keywords)
    except Exception as error:
        return print("refused:", what, type(error).__name__)
    print("{ESCAPED}", what, repr(result)[:200])
def syscall_must_fail(what, *arguments):
    if (result := libc.syscall(*arguments)) >= 0:
        print("{ESCAPED}", what, result)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One hostile program.

    Attributes:
        ends: statuses that the call may have. `error`, `timeout` and `died` are the code's own doing.
        timeout_s: wall seconds of the call; short where the program never ends.
        pause_s: time for processes that it leaves, before the next call.
        says: text that the result must contain.
    """

    code: str
    ends: tuple[str, ...] = ("ok",)
    timeout_s: float = 30.0
    pause_s: float = 0.0
    says: str = ""
