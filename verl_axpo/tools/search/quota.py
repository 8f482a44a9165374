"""The rate of calls and the limit of paid calls for all processes of a machine, in a JSON file under a lock.

    wait_for_turn() -> seconds to sleep -> spend() -> the request -> refund(), if the server did not carry it out
                                                                  -> postpone(), if it said "too many"

Turns are handed out at a fixed distance, so that waiting is a sleep and not a poll, and no burst is let through.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from verl_axpo.errors import InfraFailure
from verl_axpo.files import write_atomically

_NEXT_TURN = "next_turn"
MAX_COUNT = 1e12  # above any time in seconds and any number of calls
POLL_S = 0.002  # between two looks at a taken lock, which is held for less than that
Counters = dict[str, float]


class PaidCallsSpent(InfraFailure):
    """The run may make no further paid call."""


class Quota:
    """The shared counters in `folder`; every method is one short transaction and may block on the disk.

    Args:
        folder: on a local disk; a run and those it shares a key with use the same one.
        run: the name under which paid calls are counted; a resumed run keeps it and its count.
        max_paid_calls: per run.
        calls_per_minute: for all runs that use `folder`.
        max_wait_s: whoever would wait longer for a turn is refused at once.
    """

    def __init__(
        self, folder: Path, *, run: str, max_paid_calls: int, calls_per_minute: float, max_wait_s: float
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "counters.json"
        self._lock = FileLock(folder / "lock", poll_interval=POLL_S)
        self._paid = f"paid/{run}"
        self.run, self.max_paid_calls = run, max_paid_calls
        self._distance_s, self._max_wait_s = 60.0 / calls_per_minute, max_wait_s

    def wait_for_turn(self) -> float:
        """Take the next free turn; returns the seconds until it.

        Raises:
            InfraFailure: it is more than `max_wait_s` away; nothing is taken.
        """
        with self._counters() as counters:
            now = time.time()
            turn = self._next_turn(counters, now)
            if turn - now > self._max_wait_s:
                raise InfraFailure(
                    f"search: the next call may start in {turn - now:.0f} s, more than the {self._max_wait_s:g} s a "
                    "call may take; raise requests_per_minute if your plan allows it, or run fewer rollouts at once"
                )
            counters[_NEXT_TURN] = turn + self._distance_s
        return turn - now

    def postpone(self, seconds: float) -> None:
        """No turn of any process before `seconds` from now; at most `max_wait_s`."""
        with self._counters() as counters:
            now = time.time()
            counters[_NEXT_TURN] = max(self._next_turn(counters, now), now + min(seconds, self._max_wait_s))

    def _next_turn(self, counters: Counters, now: float) -> float:
        turn = counters.get(_NEXT_TURN, now)
        # No turn is given that far ahead: the machine's clock was set back
        return max(now, turn) if turn - now <= 2 * self._max_wait_s + self._distance_s else now

    def spend(self) -> None:
        """Count one paid call.

        Raises:
            PaidCallsSpent: all `max_paid_calls` are counted already.
        """
        with self._counters() as counters:
            if (paid := int(counters.get(self._paid, 0))) >= self.max_paid_calls:
                raise PaidCallsSpent(
                    f"search: run {self.run!r} has made its {paid} paid calls (max_paid_calls={self.max_paid_calls}); "
                    "raise max_paid_calls (SEARCH_CALLS, where the tools are `paper`) to go on, or set another `run` "
                    "(SEARCH_RUN) to count from zero. Cached queries still work"
                )
            counters[self._paid] = paid + 1

    def refund(self) -> None:
        """Take back one `spend`: the server did not carry the call out."""
        with self._counters() as counters:
            counters[self._paid] = max(0, int(counters.get(self._paid, 0)) - 1)

    def paid_calls(self) -> int:
        """Paid calls of this run so far."""
        with self._lock:
            return int(self._read().get(self._paid, 0))

    @contextmanager
    def _counters(self) -> Iterator[Counters]:
        """The counters, locked for other processes; stored when the block ends without an error."""
        with self._lock:
            counters = self._read()
            yield counters
            write_atomically(self._path, json.dumps(counters).encode())

    def _read(self) -> Counters:
        """Damaged counters do not count as zero, because calls would be paid a second time."""
        try:
            counters = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError):
            counters = None
        if isinstance(counters, dict) and all(
            isinstance(count, int | float) and 0 <= count < MAX_COUNT for count in counters.values()
        ):  # NaN and infinity are no count
            return counters
        raise InfraFailure(
            f"search: {self._path} is damaged, so nobody knows how many calls were paid for; write "
            f'{{"{self._paid}": NUMBER}} into it, or delete it to count from zero'
        )
