"""Runs cells in one namespace that lives as long as the worker, the way a notebook does.

    code -> parse -> all but the last expression: exec, the last: eval -> output, value, traceback, images -> reply

Nothing here protects itself from the code it runs; what must hold against that code is around the process.
"""

import ast
import builtins
import linecache
import os
import sys
import traceback
from collections.abc import Mapping
from types import ModuleType, TracebackType
from typing import Any

from . import frames
from .figures import Gallery, show_through, to_image
from .output import Output
from .repair import Repair

Reply = dict[str, Any]


class Kernel:
    """The interpreter of one trajectory.

    Args:
        output: the worker's standard output and error.
        scratch: folder for the files of `_images`.
        limits: `output_bytes`, `images`, `image_pixels`.
    """

    def __init__(self, output: Output, scratch: str, limits: Mapping[str, int]) -> None:
        self.output = output
        self.scratch = scratch
        self.limits = limits
        self.cells = 0
        self.gallery = [Gallery(limits)]  # one element: the current cell's
        self.main = ModuleType("__main__")
        self.namespace = self.main.__dict__
        self.namespace.update(__builtins__=builtins, _pil_images=[], _images=[], display=self._display)
        sys.modules["__main__"] = self.main
        self.pictures: list[Any] = []
        self.paths: list[str] = []
        self.repair = Repair()
        show_through(self.gallery)

    def answer(self, request: Mapping[str, Any], blob: memoryview) -> tuple[Reply, bytes]:
        """One request of the host, answered: header and raw RGB of the reply."""
        if request["op"] == "images":
            return self._take_images(request["sizes"], blob), b""
        return self._run(request["code"])

    def _take_images(self, sizes: list[list[int]], blob: memoryview) -> Reply:
        """Add the host's images, none perhaps, to `_pil_images` and, as PNG files, to `_images`; count them all."""
        offset = 0
        for width, height in sizes:
            image = to_image(blob[offset:], width, height)
            offset += width * height * frames.CHANNELS
            path = os.path.join(self.scratch, f"image_{len(self.pictures)}.png")
            image.save(path, compress_level=1)  # higher levels take seconds for a photograph of 8K
            self.pictures.append(image)
            self.paths.append(path)
        if sizes:  # bound again: a cell may have rebound or emptied the names
            self.namespace["_pil_images"], self.namespace["_images"] = list(self.pictures), list(self.paths)
        return {"count": len(self.pictures)}

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
            self.repair.put_back()
            return self._execute("1 + 1", "<cell check>", Gallery(self.limits)) == ("2", None)
        except BaseException:
            return False

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


def _split(code: str, name: str) -> tuple[Any, Any]:
    """Compiled statements, and the compiled last expression if the cell ends in one (without a semicolon)."""
    tree = ast.parse(code, name)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr) and not code.rstrip().endswith(";"):
        last = compile(ast.Expression(tree.body.pop().value), name, "eval", dont_inherit=True)  # type: ignore[attr-defined]
    return compile(tree, name, "exec", dont_inherit=True), last


def _describe(error: BaseException) -> str:
    """The traceback from the cell on; frames of the kernel are left out."""
    shown: TracebackType | None = error.__traceback__
    while shown is not None and not shown.tb_frame.f_code.co_filename.startswith("<cell "):
        shown = shown.tb_next
    return "".join(traceback.format_exception(type(error), error, shown)).rstrip()
