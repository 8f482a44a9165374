"""The sandbox as a notebook: which state stays, which results come back, and which failures count as the code's."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from PIL import Image

from tests.unit.tools.conftest import SMALL
from verl_axpo.errors import InfraFailure
from verl_axpo.tools.sandbox import SandboxConfig, SandboxPool, Session
from verl_axpo.tools.sandbox.backends import Backend
from verl_axpo.tools.sandbox.inside import zygote as inside_zygote
from verl_axpo.tools.sandbox.reply import RESTARTED
from verl_axpo.tools.sandbox.session import UNUSABLE

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def session(pool: SandboxPool) -> AsyncIterator[Session]:
    made = Session(pool)
    yield made
    await made.close()


def checkered() -> Image.Image:
    """4 x 2: a red left half, a blue right half."""
    image = Image.new("RGB", (4, 2), (255, 0, 0))
    image.paste((0, 0, 255), (2, 0, 4, 2))
    return image


# ------------------------------ a notebook ------------------------------


async def test_variables_functions_and_imports_stay(session: Session) -> None:
    await session.run("import math\ndef area(r): return math.pi * r**2\nradius = 2")
    assert (await session.run("round(area(radius), 3)")).text == "12.566"  # 4 pi


async def test_output_errors_and_value_are_told_apart(session: Session) -> None:
    result = await session.run("import sys\nprint('out')\nprint('err', file=sys.stderr)\n[1, 2]")
    assert (result.status, result.stdout, result.stderr, result.value) == ("ok", "out\n", "err\n", "[1, 2]")
    assert result.text == "out\nerr\n[1, 2]"


@pytest.mark.parametrize("code", ["x = 1", "None", "1;", "if True: 5", "# nothing", ""])
async def test_only_a_last_expression_has_a_value(session: Session, code: str) -> None:
    assert (await session.run(code)).text == "[no output]"


async def test_output_of_c_code_comes_back(session: Session) -> None:
    result = await session.run("import ctypes; c = ctypes.CDLL(None); c.puts(b'from C'); c.fflush(None); None")
    assert result.stdout == "from C\n"


async def test_an_exception_is_shown_with_the_lines_of_the_cell(session: Session) -> None:
    result = await session.run("def half(x):\n    return x / 0\nprint('before')\nhalf(3)")
    assert (result.status, result.stdout) == ("error", "before\n")
    lines = (result.error or "").splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert [line.strip() for line in lines if "File" in line] == [
        'File "<cell 1>", line 4, in <module>',
        'File "<cell 1>", line 2, in half',
    ]
    assert "    return x / 0" in lines
    assert lines[-1] == "ZeroDivisionError: division by zero"


async def test_a_syntax_error_is_shown_and_nothing_runs(session: Session) -> None:
    result = await session.run("print('no')\nx = = 1")
    assert (result.status, result.stdout) == ("error", "")
    assert (result.error or "").endswith("SyntaxError: invalid syntax")
    assert (await session.run("1")).text == "1"


async def test_too_much_output_loses_its_middle_and_says_so(session: Session) -> None:
    result = await session.run("print('a' * 3000 + 'b' * 3000, end='')")  # 6,000 bytes, of which 2,000 come back
    assert result.stdout == "a" * 1000 + "\n[... 4000 bytes left out ...]\n" + "b" * 1000


async def test_the_same_code_gives_the_same_random_numbers_and_orders(pool: SandboxPool) -> None:
    code = "import random, numpy as np; random.random(), np.random.rand(), list({'a', 'b', 'c', 'd'})"
    sessions = [Session(pool), Session(pool)]
    one, other = [(await session.run(code)).text for session in sessions]
    await asyncio.gather(*(session.close() for session in sessions))
    assert one == other


async def test_the_scientific_packages_work(session: Session) -> None:
    code = """
import numpy, scipy.optimize, sympy
from PIL import Image
x = sympy.Symbol("x")
root = scipy.optimize.brentq(lambda t: t * t - 2, 0, 2)
(sympy.integrate(2 * x, x), round(root, 6), int(numpy.linalg.det(numpy.eye(3))), Image.new("L", (2, 3)).size)
"""
    assert (await session.run(code)).value == "(x**2, 1.414214, 1, (2, 3))"


@pytest.mark.parametrize("code", ["exit()", "quit()", "exit(0)", "import sys; sys.exit()"])
async def test_leaving_ends_the_cell_and_keeps_the_variables(session: Session, code: str) -> None:
    assert (await session.run(f"kept = 3; print('before'); {code}; print('after')")).text == "before"
    assert (await session.run("kept")).text == "3"


async def test_leaving_with_a_message_shows_it(session: Session) -> None:
    result = await session.run("exit('bye')")
    assert (result.status, result.text.splitlines()[-1]) == ("error", "SystemExit: bye")


async def test_help_shows_documentation(session: Session) -> None:
    result = await session.run("help(len)")
    assert (result.status, result.text.splitlines()[0]) == ("ok", "Help on built-in function len in module builtins:")


async def test_printing_without_end_says_so_in_one_message_without_our_frames(session: Session) -> None:
    result = await session.run("while True:\n    print('x' * 10_000)")
    assert result.error is not None
    assert result.error.splitlines() == [
        "Traceback (most recent call last):",
        '  File "<cell 1>", line 2, in <module>',
        "    print('x' * 10_000)",
        "OSError: too much output: it is kept in the scratch space, which has 16 MB",
    ]
    assert (await session.run("print('next')")).text == "next"


@pytest.mark.parametrize("code", ["display(Shown())", "Shown()"])
async def test_our_frames_are_in_no_traceback(session: Session, code: str) -> None:
    shown = "class Shown:\n    def __repr__(self):\n        try: 1 / 0\n        finally: {}['no']\n"
    result = await session.run(shown + code)
    assert "ZeroDivisionError" in result.text  # the exception before it as well
    assert "KeyError: 'no'" in result.text
    assert "/inside/" not in result.text


async def test_labels_in_any_script_cause_no_warnings(session: Session) -> None:
    code = """
import matplotlib.pyplot as plt
plt.rcParams["font.sans-serif"] = ["SimHei", "DejaVu Sans"]
plt.bar(["\u4e2d\u6587", "\u65e5\u672c"], [1, 2])
plt.title("\uacb0\uacfc")
plt.show()
"""
    result = await session.run(code)
    assert (result.text, len(result.images)) == ("", 1)


async def test_what_science_asks_the_kernel_for_is_allowed(session: Session) -> None:
    """Threads, event loops, memory maps, temporary files and copies; the filter allows what is listed only."""
    code = """
import asyncio, concurrent.futures, mmap, os, pathlib, queue, shutil, sqlite3, tempfile, threading, time
import numpy as np
with concurrent.futures.ThreadPoolExecutor(4) as threads:
    assert list(threads.map(abs, [-1, -2])) == [1, 2]
async def later(): return await asyncio.to_thread(time.sleep, 0.01)
asyncio.run(asyncio.wait_for(later(), 5))
with tempfile.TemporaryDirectory() as folder:
    first = pathlib.Path(folder, "first")
    np.save(first.with_suffix(".npy"), np.eye(3))
    assert np.load(first.with_suffix(".npy"), mmap_mode="r+").trace() == 3
    first.write_text("x"), first.touch(), first.rename(first.with_name("second"))
    shutil.copy(first.with_name("second"), first), shutil.copytree(folder, "copy"), shutil.rmtree("copy")
    os.symlink("first", folder + "/link"), os.stat(folder + "/link"), list(os.scandir(folder)), os.walk(folder)
assert sqlite3.connect(":memory:").execute("select 1").fetchone() == (1,)
os.sched_setaffinity(0, os.sched_getaffinity(0)), os.getpriority(os.PRIO_PROCESS, 0), os.cpu_count(), os.uname()
reader, writer = os.pipe()
os.set_blocking(reader, False), os.write(writer, b"x"), os.read(reader, 1), os.isatty(1), os.urandom(4)
(np.linalg.svd(np.random.rand(300, 300))[1] > 0).all() and time.strftime("%Z", time.gmtime(0)) is not None
"""
    result = await session.run(code)
    assert (result.status, result.value) == ("ok", "True"), result.text


# ------------------------------ images ------------------------------


async def test_images_of_the_conversation_are_there_as_pictures_and_as_files(session: Session) -> None:
    code = "from PIL import Image; [(i.size, i.getpixel((0, 0)), i.getpixel((3, 1))) for i in _pil_images]"
    assert (await session.run(code, images=[checkered()])).value == "[((4, 2), (255, 0, 0), (0, 0, 255))]"
    assert (await session.run("Image.open(_images[0]).getpixel((3, 0))", images=[checkered()])).value == "(0, 0, 255)"


async def test_images_that_other_tools_add_arrive_each_once(session: Session) -> None:
    images = [checkered()]
    await session.run("first = _pil_images[0]", images=images)
    images.append(Image.new("L", (7, 5), 9))
    result = await session.run("[i.size for i in _pil_images], len(_images), _pil_images[0] is first", images=images)
    assert result.value == "([(4, 2), (7, 5)], 2, True)"


async def test_images_come_back_with_a_fresh_interpreter(session: Session) -> None:
    await session.run("import os; os._exit(0)", images=[checkered()])
    assert (await session.run("len(_pil_images)", images=[checkered()])).value == "1"


async def test_a_large_input_is_shrunk_to_the_limit(backend: Backend) -> None:
    pool = SandboxPool(SandboxConfig(input_pixels=100), backend, preload=())
    session = Session(pool)
    # 40 x 10 = 400 pixels for a limit of 100: half of each side
    assert (await session.run("_pil_images[0].size", images=[Image.new("RGB", (40, 10))])).value == "(20, 5)"
    await pool.close()


async def test_an_image_without_room_as_a_file_is_still_a_picture(session: Session) -> None:
    noise = Image.effect_noise((5000, 4000), 100).convert("L")  # 20 MB as a file, for a scratch space of 16 MB
    result = await session.run("_images, _pil_images[0].size, _pil_images[1].size", images=[noise, checkered()])
    assert result.value == f"([None, {result.value.split(',')[1].strip()[:-1]}], (5000, 4000), (4, 2))"  # type: ignore[union-attr]
    note = "[image 0 of the conversation (5000 x 4000 pixels) does not fit into 16 MB of files: _images[0] is None]"
    assert result.notes == (note,)


async def test_an_image_without_room_in_memory_is_left_out_and_the_code_still_runs(backend: Backend) -> None:
    pool = SandboxPool(SandboxConfig(memory_mb=160), backend, preload=("PIL.Image",))
    session = Session(pool)
    images = [Image.new("RGB", (4000, 4000)), checkered(), Image.new("RGB", (4000, 4000))]  # 64 MB each
    result = await session.run("[image and image.size for image in _pil_images], 1 + 1", images=images)
    assert result.value == "([(4000, 4000), (4, 2), None], 2)"
    note = (
        "[image 2 of the conversation (4000 x 4000 pixels) does not fit into 160 MB of memory: _pil_images[2] is None]"
    )
    assert result.notes == (note,)
    await pool.close()


async def test_arrays_of_sixteen_bits_keep_their_grey_levels(session: Session) -> None:
    code = "import numpy as np; from PIL import Image; Image.fromarray(np.array([[0, 256, 32768, 65535]], np.uint16))"
    (image,) = (await session.run(code)).images
    assert [image.getpixel((x, 0)) for x in range(4)] == [(0,) * 3, (1,) * 3, (128,) * 3, (255,) * 3]


async def test_a_picture_as_last_expression_is_an_image(session: Session) -> None:
    result = await session.run("_pil_images[0].rotate(180)", images=[checkered()])
    (image,) = result.images
    assert (result.text, image.size, image.getpixel((0, 0)), image.getpixel((3, 1))) == (
        "",
        (4, 2),
        (0, 0, 255),
        (255, 0, 0),
    )


async def test_transparency_becomes_white(session: Session) -> None:
    code = "from PIL import Image; Image.new('RGBA', (3, 3), (255, 0, 0, 0))"
    (image,) = (await session.run(code)).images
    assert image.getcolors() == [(9, (255, 255, 255))]


@pytest.mark.parametrize(
    "code",
    [
        "plt.bar([1, 2], [3, 4]); plt.show()",
        "plt.bar([1, 2], [3, 4]);",  # left open
        "f, a = plt.subplots(); a.plot([1, 2]); f",
        "f, a = plt.subplots(); display(f)",
        "from PIL import Image; Image.new('RGB', (9, 9)).show()",
    ],
)
async def test_what_is_shown_comes_back_once(session: Session, code: str) -> None:
    result = await session.run("import matplotlib.pyplot as plt\n" + code)
    assert (result.status, len(result.images), result.text) == ("ok", 1, "")
    assert (await session.run("plt.get_fignums()")).text == "[]"


async def test_a_large_image_is_shrunk_with_a_note(session: Session) -> None:
    # 2048 x 1024 pixels for a limit of 512 x 512: scale sqrt(1/8) = 0.35355
    result = await session.run("from PIL import Image; Image.new('RGB', (2048, 1024))")
    assert [image.size for image in result.images] == [(724, 362)]
    assert result.text == "[an image of 2048 x 1024 pixels is shown at 724 x 362]"


# ------------------------------ apart ------------------------------


async def test_two_trajectories_see_neither_variables_nor_files_nor_processes(pool: SandboxPool) -> None:
    one, other = Session(pool), Session(pool)
    await one.run("import threading, time; secret = 1; open('file', 'w').write('x')")
    sees = "import os; 'secret' in globals(), os.path.exists('file'), "
    assert (await other.run(sees + "_pil_images")).value == "(False, False, [])"
    assert (await one.run(sees + "_pil_images")).value == "(True, True, [])"
    pids = [int((await each.run("os.getpid()")).value or 0) for each in (one, other)]
    kill = "try:\n    os.kill({}, 0)\n    print('sees it')\nexcept OSError:\n    print('sees nothing')"
    if pids[0] != pids[1]:  # where each has its own numbers, there is no number to try
        assert (await other.run(kill.format(pids[0]))).stdout == "sees nothing\n"
    assert (await other.run("[name for name in os.listdir('/proc') if name.isdigit()]")).status in ("ok", "error")
    await asyncio.gather(one.close(), other.close())


async def test_calls_of_one_trajectory_run_one_after_another(session: Session) -> None:
    await session.run("trace = []")
    code = "import time; trace.append('in'); time.sleep(0.05); trace.append('out')"
    await asyncio.gather(*(session.run(code) for _ in range(3)))
    assert (await session.run("trace")).value == str(["in", "out"] * 3)


async def test_more_trajectories_than_places_wait_and_none_is_lost_or_crossed(backend: Backend) -> None:
    pool = SandboxPool(SandboxConfig(max_sandboxes=3, max_running=2), backend, preload=())

    async def trajectory(number: int) -> str | None:
        session = Session(pool)
        await session.run(f"mine = {number}")
        result = await session.run("mine * mine")
        await session.close()
        return result.value

    results = await asyncio.gather(*(trajectory(number) for number in range(12)))
    await pool.close()
    assert results == [str(number * number) for number in range(12)]


# ------------------------------ the clock ------------------------------


async def test_a_time_out_ends_the_call_and_the_next_one_starts_clean_and_says_so(session: Session) -> None:
    await session.run("kept = 1")
    started = time.monotonic()
    result = await session.run("print('stale')\nwhile True: pass", timeout_s=0.5)
    assert time.monotonic() - started < 20
    assert (result.status, result.stdout) == ("timeout", "")
    assert result.text == "Timed out after 0.5 s. The interpreter was stopped, its variables are lost."
    after = await session.run("'kept' in globals()")
    assert (after.text, after.restarted) == (f"{RESTARTED}\nFalse", True)
    assert (await session.run("1")).text == "1"  # said once


async def test_a_call_gets_no_more_time_than_the_configuration_allows(backend: Backend) -> None:
    pool = SandboxPool(SandboxConfig(timeout_s=0.5, max_timeout_s=1), backend, preload=())
    session = Session(pool)
    for asked, given in ((None, "0.5 s"), (3600, "1 s")):
        result = await session.run("while True: pass", timeout_s=asked)
        assert (result.error or "").startswith(f"Timed out after {given}")
    await pool.close()


async def test_a_cancelled_call_leaves_nothing_running(pool: SandboxPool) -> None:
    session = Session(pool)
    await session.run("1")
    await session.close()
    idle = len(_processes(pool))
    await session.run("1")
    call = asyncio.create_task(session.run("import time; time.sleep(60)"))
    await asyncio.sleep(0.2)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert len(_processes(pool)) == idle
    assert (await session.run("1")).text == f"{RESTARTED}\n1"
    await session.close()


# ------------------------------ whose doing ------------------------------


async def test_what_the_code_does_to_its_interpreter_is_told_to_the_model(session: Session) -> None:
    result = await session.run("import os; os._exit(7)")
    assert (result.status, result.text) == (
        "died",
        "The code ended its own interpreter: it exited with status 7. Its variables are lost.",
    )


async def test_an_interpreter_that_cannot_go_on_is_replaced(session: Session) -> None:
    result = await session.run("import ast; ast.parse = None")
    assert (result.status, result.text) == ("ok", UNUSABLE)
    assert (await session.run("1")).text == f"{RESTARTED}\n1"


async def test_the_death_of_the_parent_is_ours_and_the_next_trajectory_gets_another(backend: Backend) -> None:
    pool = SandboxPool(SMALL, backend, preload=())
    session = Session(pool)
    await session.run("1")
    call = asyncio.create_task(session.run("import time; time.sleep(60)"))
    await asyncio.sleep(0.2)
    for process in _processes(pool):
        with contextlib.suppress(psutil.NoSuchProcess):  # where the first takes the others with it
            process.kill()
    with pytest.raises(InfraFailure, match="the parent process ended"):
        await call
    await session.close()
    other = Session(pool)
    assert (await other.run("1")).text == "1"
    await pool.close()


async def test_a_worker_that_cannot_start_is_ours(backend: Backend) -> None:
    pool = SandboxPool(SandboxConfig(open_files=3), backend, preload=())  # none left for its output
    with pytest.raises(InfraFailure, match=r"(?s)did not start: .*Too many open files"):
        await Session(pool).run("1")
    await pool.close()


async def test_a_request_that_the_parent_cannot_carry_out_harms_nobody_else(backend: Backend) -> None:
    pool = SandboxPool(SMALL, backend, preload=())
    session = Session(pool)
    await session.run("kept = 5")
    parent = pool._zygote
    assert parent is not None
    ended = parent.exits[99] = asyncio.get_running_loop().create_future()
    await parent._send({"op": "spawn", "worker": 99, "scratch": None})  # without the channel
    assert (await ended)["error"] == "too many open files in the parent"
    assert (await session.run("kept")).text == "5"
    assert (await Session(pool).run("1")).text == "1"
    await pool.close()


@pytest.mark.parametrize("number", [signal.SIGRTMIN + 6, signal.SIGSEGV, signal.SIGTERM])
async def test_any_signal_that_ends_a_worker_is_told_to_the_model(session: Session, number: int) -> None:
    result = await session.run(f"import os, time; os.kill(os.getpid(), {number}); time.sleep(0.2)")
    name = "signal 40" if number > signal.SIGRTMIN else signal.Signals(number).name
    # process 1 of a namespace does not get its own signals
    ended = f"The code ended its own interpreter: it was ended by {name}. Its variables are lost."
    assert result.text in (ended, "[no output]")


async def test_a_parent_that_does_not_confirm_a_kill_is_replaced_with_its_whole_tree(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verl_axpo.tools.sandbox.zygote.END_TIMEOUT_S", 1.0)
    pool = SandboxPool(SMALL, backend, preload=())
    session, other = Session(pool), Session(pool)
    await asyncio.gather(session.run("1"), other.run("1"))
    old = _processes(pool)
    for process in old:
        process.suspend()
    with pytest.raises(InfraFailure, match="still there 1 s after it was killed"):
        await session.run("while True: pass", timeout_s=0.2)
    assert (await session.run("1 + 1")).text == f"{RESTARTED}\n2"
    _, alive = await asyncio.to_thread(psutil.wait_procs, old, timeout=10)
    assert alive == []
    await pool.close()


async def test_a_parent_that_does_not_answer_is_ours(backend: Backend) -> None:
    pool = SandboxPool(SandboxConfig(start_timeout_s=1.5), backend, preload=())
    first = Session(pool)
    while True:  # a trial of the machine: it may be too busy to start anything in that time
        try:
            await first.run("1")
            break
        except InfraFailure:
            pass
    for process in _processes(pool):
        process.send_signal(signal.SIGSTOP)
    with pytest.raises(InfraFailure, match="did not start"):
        await asyncio.wait_for(_then_continue(Session(pool).run("1"), _processes(pool), 2.0), 60)
    await pool.close()


async def _then_continue(call: Coroutine[Any, Any, object], processes: list[psutil.Process], seconds: float) -> None:
    """Await `call`; let the stopped processes go on after `seconds`."""

    def resume() -> None:
        for process in processes:
            process.send_signal(signal.SIGCONT)

    asyncio.get_running_loop().call_later(seconds, resume)
    await call


async def test_no_place_in_time_is_ours(backend: Backend, own_node: None) -> None:
    pool = SandboxPool(SandboxConfig(max_sandboxes=1, queue_timeout_s=1), backend, preload=())
    holder, waiter = Session(pool), Session(pool)
    await holder.run("1")
    with pytest.raises(InfraFailure, match="every sandbox is in use, for 1 s now"):
        await waiter.run("1")
    await holder.close()
    assert (await waiter.run("2")).text == "2"
    await pool.close()


# ------------------------------ nothing stays ------------------------------


async def test_a_pool_that_closes_frees_its_places(backend: Backend, own_node: None) -> None:
    config = SandboxConfig(max_sandboxes=1, queue_timeout_s=1)
    pool, following = (SandboxPool(config, backend, preload=()) for _ in range(2))
    session = Session(pool)  # nobody closes it
    await session.run("1")
    await pool.close()
    assert (await Session(following).run("2")).text == "2"
    await following.close()


async def test_a_pool_that_closes_leaves_no_process_descriptor_or_file(backend: Backend, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path))
        descriptors = os.listdir("/proc/self/fd")
        pool = SandboxPool(SMALL, backend, preload=())
        sessions = [Session(pool) for _ in range(3)]
        await asyncio.gather(*(session.run("open('left', 'w').write('x')") for session in sessions))
        processes = _processes(pool)
        await pool.close()
        await asyncio.gather(*(session.close() for session in sessions))
        assert len(processes) >= 4  # three workers, their parent, and what confines them
        _, alive = psutil.wait_procs(processes, timeout=30)
        assert alive == []
        assert os.listdir(tmp_path) == []
        assert len(os.listdir("/proc/self/fd")) <= len(descriptors)


async def test_folders_that_their_owner_may_not_open_are_removed(backend: Backend, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path))
        pool = SandboxPool(SMALL, backend, preload=())
        session = Session(pool)
        result = await session.run("import os; os.makedirs('a/b'); os.mkdir('a/c', 0); os.umask(0o777); os.mkdir('d')")
        await session.close()
        assert result.status == "ok", result.text
        assert list(tmp_path.glob("*/scratch/*")) == []
        await pool.close()


OWNER = """
import asyncio, psutil, sys, tempfile
from verl_axpo.tools.sandbox import SandboxConfig, SandboxPool, Session
from verl_axpo.tools.sandbox.backends import BACKENDS
tempfile.tempdir = sys.argv[2]
async def main():
    pool = SandboxPool(SandboxConfig(), BACKENDS[sys.argv[1]], preload=())
    session = Session(pool)
    await session.run("open('left', 'w').write('x')")
    print(*[process.pid for process in psutil.Process().children(recursive=True)], flush=True)
    await session.run("while True: pass", timeout_s=60)
asyncio.run(main())
"""


@pytest.mark.parametrize("stopped", [False, True])
async def test_a_killed_owner_takes_everything_with_it(backend: Backend, tmp_path: Path, stopped: bool) -> None:
    command = [sys.executable, "-c", OWNER, backend.name, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        line = await asyncio.to_thread(owner.stdout.readline)
        processes = [psutil.Process(int(pid)) for pid in line.split() if psutil.pid_exists(int(pid))]
        for process in processes if stopped else ():
            if "sandlock import" not in " ".join(process.cmdline()):  # its supervisor, which stands outside
                process.suspend()
        owner.kill()
    assert len(processes) >= 3
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, timeout=30)
    assert alive == []
    assert os.listdir(tmp_path) == []


def _processes(pool: SandboxPool) -> list[psutil.Process]:
    """The pool's parent and everything below it."""
    assert pool._zygote is not None
    top = psutil.Process(pool._zygote.process.pid)
    return [top, *top.children(recursive=True)]


async def test_a_fork_that_a_signal_interrupts_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under sandlock's supervisor, when another worker ends at that moment; Python repeats no fork by itself."""
    answers = iter([InterruptedError(4, "Interrupted system call"), 1234])

    def fork() -> int:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(os, "fork", fork)
    parent = inside_zygote.Zygote.__new__(inside_zygote.Zygote)
    parent.namespaces = False
    assert parent._fork({}, 0) == 1234
