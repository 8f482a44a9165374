"""Hostile answers: every comparison ends, its process is replaced, and the next answer is compared as ever."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from verl_axpo.errors import InfraFailure
from verl_axpo.rewards import algebra as module
from verl_axpo.rewards.algebra import Algebra
from verl_axpo.rewards.math import Expressions, compare, same_value

CPU_LIMIT_S = 0.5  # of the tests; the default's 3 s, fifteen times over, would be a minute
PATIENCE_S = 60.0  # a machine with other work gives a process a small share of its time
TOWER = "9^{9^{9^{9}}}"

HOSTILE = {
    "tower": TOWER,
    "plain tower": "9^9^9^9",
    "power of a power": "10^{10^{10}}",
    "factorial": "(10^{10})!",
    "sum": "\\sum_{n=1}^{10^{9}} n^{n}",
    "expansion": "(x+y+z+w)^{300}",
    "integral": "\\int \\frac{1}{x^{17}+x^3+1} dx",
    "integral towers": "\\int_0^1" * 60 + " x^{x^{x}} dx",
    "nested braces": "{" * 900 + "1" + "}" * 900,
    "nested brackets": "(" * 900 + "1" + ")" * 900,
    "nested functions": "\\cos(" * 100 + "1" + ")" * 100,
    "matrix": "\\begin{pmatrix}" + "1&2\\\\" * 200 + "\\end{pmatrix}",
    "a megabyte": "1+" * 500_000 + "1",
    "unbalanced": "\\frac{" * 300,
    "not text": "\x00\x01\ufffd$$\\",
}


@pytest.fixture(scope="module")
def algebra() -> Iterator[Algebra]:
    """One process, so that each comparison meets what the one before left."""
    one = Algebra(processes=1, cpu_limit_s=CPU_LIMIT_S)
    yield one
    one.close()


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_answer_is_never_right_and_never_hangs(answer: str, algebra: Algebra) -> None:
    started = time.monotonic()
    case = compare(answer, "42\\pi+1")
    verdict = await algebra.equal(case.answer, case.truth) if isinstance(case, Expressions) else case
    assert verdict in (False, None)
    assert time.monotonic() - started < PATIENCE_S


async def test_a_process_that_uses_up_its_time_is_replaced(algebra: Algebra) -> None:
    assert await algebra.equal(TOWER, "\\pi") is None
    assert await algebra.equal("\\sqrt{8}", "2\\sqrt{2}") is True
    assert await algebra.equal("\\sqrt{8}", "2\\sqrt{3}") is False


async def test_a_process_that_is_killed_between_two_answers_is_replaced() -> None:
    others, idle = children(), Algebra(processes=1)
    assert await idle.equal("1+1", "2") is True
    (child,) = children() - others
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert await idle.equal("1+1", "2") is True
    idle.close()


async def test_a_process_that_is_killed_at_work_says_nothing_about_the_answer() -> None:
    others, busy = children(), Algebra(processes=1, cpu_limit_s=PATIENCE_S)
    assert await busy.equal("1+1", "2") is True
    (child,) = children() - others
    waiting = asyncio.create_task(busy.equal(TOWER, "\\pi"))
    while child.cpu_times().user < 1.5:  # past its imports, in the tower
        await asyncio.sleep(0.1)
    child.send_signal(signal.SIGKILL)
    with pytest.raises(InfraFailure, match="killed from outside"):
        await waiting
    busy.close()


async def test_hostile_answers_at_once_do_not_stop_the_others() -> None:
    """Two processes, four towers: all end, and so does the honest answer behind them."""
    both = Algebra(processes=2, cpu_limit_s=CPU_LIMIT_S)
    verdicts = await asyncio.gather(*[both.equal(TOWER, "\\pi") for _ in range(4)], both.equal("1+1", "2"))
    both.close()
    assert verdicts == [None] * 4 + [True]


async def test_the_default_limits_hold_too() -> None:
    started = time.monotonic()
    assert await same_value(TOWER, "\\pi") is None
    assert time.monotonic() - started < PATIENCE_S


async def test_a_machine_that_gives_no_time_is_a_failure_and_not_a_wrong_answer() -> None:
    others, slow = children(), Algebra(processes=1)
    assert await slow.equal("2", "2") is True
    (child,) = children() - others
    child.suspend()  # as if the machine never ran it
    slow.wall_limit_s = 1.0
    with pytest.raises(InfraFailure, match="no reply within 1 s; the machine is overloaded"):
        await slow.equal("2", "2")
    assert not child.is_running()
    slow.wall_limit_s = PATIENCE_S
    assert await slow.equal("2", "2") is True
    slow.close()


async def test_an_environment_without_math_verify_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MODULE", "verl_axpo.rewards.no_such_module")
    with pytest.raises(InfraFailure, match=r"could not start: .*no_such_module.*pip install math-verify"):
        await Algebra(processes=1).equal("1+1", "2")


def test_the_processes_end_with_the_one_that_started_them() -> None:
    """Killed with SIGKILL, as Ray kills workers: nothing can clean up, and still no child stays."""
    code = (
        "import asyncio, os, psutil; from verl_axpo.rewards.algebra import algebra\n"
        "async def main():\n"
        "    await algebra().equal('1+1', '2')\n"
        "    print(*(child.pid for child in psutil.Process().children()), flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL
    (pid,) = map(int, done.stdout.split())
    deadline = time.monotonic() + PATIENCE_S
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the child outlives its parent"
        time.sleep(0.1)


def children() -> set[psutil.Process]:
    """The algebra processes that run now; other tests may have left theirs for the next answer."""
    return {one for one in psutil.Process(os.getpid()).children() if module.MODULE in one.cmdline()}
