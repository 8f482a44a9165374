"""Runs cells in one namespace that lives as long as the worker, the way a notebook does.

    code -> parse -> all but the last expression: exec, the last: eval -> output, value, traceback, images -> reply

Nothing here protects itself from the code it runs; what must hold against that code is around the process.
"""

import _sitebuiltins
import ast
import builtins
import contextlib
import linecache
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from types import ModuleType, TracebackType
from typing import Any

from . import confine, frames
from .figures import Gallery, show_through
from .output import Output

Reply = dict[str, Any]
_OWN_FOLDER = os.path.dirname(__file__)
_MEGABYTE = 2**20
_REHEARSALS = 20  # Python 3.11 and later rewrite code that ran some ten times
_KEPT_FREE = 8  # an eighth of the memory is no image's: a cell needs some to say what is wrong
_IGNORED = {signal.SIGPIPE, signal.SIGXFSZ}  # Python's own choice: they become BrokenPipeError and OSError
_FIXED = {signal.SIGKILL, signal.SIGSTOP}
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


class Kernel:
    """The interpreter of one trajectory, made in the parent and started in the worker.

    Args:
        limits: `output_bytes`, `images`, `image_pixels`, `memory_mb`.
    """

    output: Output  # the worker's standard output and error
    scratch: str  # folder for the files of `_images`

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.limits = limits
        self.cells = 0
        self.gallery = [Gallery(limits)]  # one element: the current cell's
        self.main = ModuleType("__main__")
        self.namespace = self.main.__dict__
        self.namespace.update(__builtins__=builtins, _pil_images=[], _images=[], display=self._display)
        sys.modules["__main__"] = self.main
        self.pictures: list[Any] = []
        self.paths: list[str | None] = []
        vars(builtins).update(exit=_leave, quit=_leave, help=_sitebuiltins._Helper())  # `site`, not loaded, has them
        show_through(self.gallery)
        self.builtins, self.stdin = dict(vars(builtins)), sys.stdin
        self.recursion_limit, self.switch_interval = sys.getrecursionlimit(), sys.getswitchinterval()

    def rehearse(self) -> None:
        """Run what every first cell runs, until the interpreter has adapted to it: workers then change fewer pages."""
        for _ in range(_REHEARSALS):
            self._is_usable()

    def start(self, output: Output, scratch: str) -> None:
        """Serve one trajectory from here on."""
        self.output, self.scratch = output, scratch
        confine.report_aborts()

    def answer(self, request: Mapping[str, Any], blob: memoryview | None) -> tuple[Reply, bytes]:
        """One request of the host, answered: header and raw RGB of the reply."""
        if request["op"] == "run":
            return self._run(request["code"])
        problem = self._take_image(request["size"], blob) if request["op"] == "image" else None
        return {"count": len(self.pictures), "problem": problem}, b""

    def _take_image(self, size: tuple[int, int], blob: memoryview | None) -> str | None:
        """Add the host's image to `_pil_images` and, as a PNG file, to `_images`; what does not fit is None there.

        Returns:
            which of `frames.PROBLEMS` it was.
        """
        picture, path, problem = None, None, "memory"
        try:
            if blob is not None:
                picture = _image(blob, *size)
                bytearray(self.limits["memory_mb"] * _MEGABYTE // _KEPT_FREE)
                path, problem = self._save(picture), "disk"
        except MemoryError:
            picture = None
        self.pictures.append(picture)
        self.paths.append(path)
        # bound again: a cell may have rebound or emptied the names
        self.namespace["_pil_images"], self.namespace["_images"] = list(self.pictures), list(self.paths)
        return None if path else problem

    def _save(self, picture: Any) -> str | None:
        """The image's file; None if the scratch space is full."""
        path = os.path.join(self.scratch, f"image_{len(self.pictures)}.png")
        try:
            picture.save(path, compress_level=1)  # higher levels take seconds for a photograph of 8K
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(path)
            return None
        return path

    def _run(self, code: str) -> tuple[Reply, bytes]:
        self.cells += 1
        self.gallery[0] = gallery = Gallery(self.limits)
        self.output.begin()
        value, error = self._execute(code, f"<cell {self.cells}>", gallery)
        stdout, stderr = self.output.collect()
        reply = {
            "stdout": stdout,
            "stderr": stderr,
            "value": self._shorten(value),
            "error": self._shorten(error),
            "lost": not self._is_usable(),
            "notes": gallery.notes,
            "sizes": gallery.sizes,
        }
        return reply, b"".join(gallery.data)

    def _execute(self, code: str, name: str, gallery: Gallery) -> tuple[str | None, str | None]:
        """(text of the last expression's value, traceback); images go to `gallery`."""
        text: str | None = None
        try:
            linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
            body, last = _split(code, name)
            exec(body, self.namespace)
            value = eval(last, self.namespace) if last is not None else None
            if value is not None and not gallery.add(value):
                text = repr(value)
            gallery.add_open_figures()
        except BaseException as error:  # KeyboardInterrupt and SystemExit end the cell, not the worker
            if not isinstance(error, SystemExit) or error.code:
                return text, _describe(error)
        return text, None

    def _is_usable(self) -> bool:
        """Whether the next cell will find a working interpreter, after repairs."""
        try:
            self._put_back()
            return self._execute("1 + 1", "<cell check>", Gallery(self.limits)) == ("2", None)
        except BaseException:
            return False

    def _put_back(self) -> None:
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

    def _display(self, *values: Any) -> None:
        """Notebook's `display`: pictures and figures as images, anything else as text."""
        for value in values:
            if not self.gallery[0].add(value):
                print(value)

    def _shorten(self, text: str | None) -> str | None:
        if text is None:
            return None
        data = text.encode("utf-8", errors="backslashreplace")
        return frames.shorten(data, self.limits["output_bytes"]).decode("utf-8", errors="replace")


def _image(blob: memoryview, width: int, height: int) -> Any:
    from PIL import Image

    return Image.frombytes("RGB", (width, height), blob)


def _split(code: str, name: str) -> tuple[Any, Any]:
    """Compiled statements, and the compiled last expression if the cell ends in one (without a semicolon)."""
    tree = ast.parse(code, name)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr) and not code.rstrip().endswith(";"):
        last = compile(ast.Expression(tree.body.pop().value), name, "eval", dont_inherit=True)  # type: ignore[attr-defined]
    return compile(tree, name, "exec", dont_inherit=True), last


def _leave(code: object = None) -> None:
    """End the cell, as `exit()` and `quit()` do; variables stay."""
    raise SystemExit(code)


def _describe(error: BaseException) -> str:
    """The traceback, and those of the exceptions before it, without our own frames."""
    shown: BaseException | None = error
    seen: set[int] = set()
    while shown is not None and id(shown) not in seen:
        seen.add(id(shown))
        shown.__traceback__ = _without_own_frames(shown.__traceback__)
        shown = shown.__cause__ or shown.__context__
    return "".join(traceback.format_exception(error)).rstrip()


def _without_own_frames(frame: TracebackType | None) -> TracebackType | None:
    kept: list[TracebackType] = []
    while frame is not None:
        if not frame.tb_frame.f_code.co_filename.startswith(_OWN_FOLDER):
            kept.append(frame)
        frame = frame.tb_next
    chain: TracebackType | None = None
    for entry in reversed(kept):
        chain = TracebackType(chain, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return chain
