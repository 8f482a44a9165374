"""What a worker sent, taken apart on the host as what it is: hostile. No other module reads a field of it.

header (dict) + raw RGB -> result() -> CellResult, every text and image of which is within the configured bounds
                             |_ FrameError: a field that no honest worker sends
"""

from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from verl_axpo.tools.sandbox.inside import frames
from verl_axpo.tools.sandbox.limits import SandboxConfig

RESTARTED = "[The interpreter was restarted: variables, imports and files of earlier calls are lost.]"
MARK_BYTES = 64  # of the mark in a text that the worker has shortened, on top of `output_bytes`
NOTE_BYTES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """What one call gave.

    Attributes:
        status: `ok`; `error`: the code raised; `timeout`, `died`: the interpreter is gone, and its state with it.
        stdout, stderr, value: text, shortened with a mark; `value` is the repr of the last expression.
        error: the traceback, or how the interpreter ended.
        notes: remarks on images that were shrunk or left out.
        images: RGB, in the order in which they were made.
        restarted: state of earlier calls had been lost before this one began.
    """

    status: Literal["ok", "error", "timeout", "died"]
    stdout: str = ""
    stderr: str = ""
    value: str | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()
    images: tuple[Image.Image, ...] = ()
    restarted: bool = False

    @property
    def text(self) -> str:
        """All of it as a model reads it; empty if there are only images."""
        parts = [RESTARTED if self.restarted else "", self.stdout, self.stderr, self.value, *self.notes, self.error]
        text = "\n".join(part.rstrip("\n") for part in parts if part)
        return text or ("" if self.images else "[no output]")


def result(reply: dict[str, Any], blob: bytes, config: SandboxConfig, *, restarted: bool) -> CellResult:
    """The reply to a cell.

    Raises:
        FrameError: a field that no honest worker sends.
    """
    stdout, stderr, value, error = (_text(reply.get(name), config) for name in ("stdout", "stderr", "value", "error"))
    notes = reply.get("notes")
    _demand(
        isinstance(notes, list) and len(notes) <= frames.MAX_NOTES and all(isinstance(note, str) for note in notes),
        "whose notes are none",
    )
    return CellResult(
        status="ok" if error is None else "error",
        stdout=stdout or "",
        stderr=stderr or "",
        value=value,
        error=error,
        notes=tuple(_clean(note, NOTE_BYTES) for note in notes or ()),
        images=_pictures(reply.get("sizes"), blob, config),
        restarted=restarted,
    )


def missing_part(reply: dict[str, Any], expected_count: int) -> str | None:
    """The reply to an image: "memory" or "disk" if it did not fit there, None if it did.

    Raises:
        FrameError: another count of images than the host has sent, or another problem.
    """
    count, problem = reply.get("count"), reply.get("problem")
    _demand(type(count) is int and count == expected_count, "with a wrong count of images")
    _demand(problem in (None, *frames.PROBLEMS), "with an unknown problem of an image")
    return problem


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise frames.FrameError(f"a reply {otherwise}")


def _text(value: Any, config: SandboxConfig) -> str | None:
    _demand(value is None or isinstance(value, str), "whose texts are none")
    return None if value is None else _clean(value, config.output_bytes + MARK_BYTES)


def _clean(text: str, limit: int) -> str:
    """Without half characters, which no tokenizer takes, and within about `limit` bytes."""
    return frames.shorten(text.encode("utf-8", errors="replace"), limit).decode("utf-8", errors="ignore")


def _pictures(sizes: Any, blob: bytes, config: SandboxConfig) -> tuple[Image.Image, ...]:
    _demand(isinstance(sizes, list) and len(sizes) <= config.images, "with too many images")
    pictures, offset = [], 0
    for size in sizes:
        width, height = _sides(size, config.image_pixels)
        end = offset + width * height * frames.CHANNELS
        _demand(end <= len(blob), "with an image larger than its bytes")
        pictures.append(Image.frombytes("RGB", (width, height), blob[offset:end]))
        offset = end
    _demand(offset == len(blob), "with bytes that belong to no image")
    return tuple(pictures)


def _sides(size: Any, pixels: int) -> tuple[int, int]:
    two = isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)
    _demand(two, "with an image of no size")
    _demand(size[0] * size[1] <= pixels, "with an image larger than is allowed")
    _demand(max(size) <= frames.MAX_ASPECT * min(size), "with an image that is too elongated")
    return size[0], size[1]
