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
    value, error = _text(reply.get("value"), config), _text(reply.get("error"), config)
    return CellResult(
        status="ok" if error is None else "error",
        stdout=_text(reply.get("stdout"), config) or "",
        stderr=_text(reply.get("stderr"), config) or "",
        value=value,
        error=error,
        notes=_notes(reply.get("notes")),
        images=_pictures(reply.get("sizes"), blob, config),
        restarted=restarted,
    )


def missing_part(reply: dict[str, Any], expected_count: int) -> str | None:
    """The reply to an image: "memory" or "disk" if it did not fit there, None if it did.

    Raises:
        FrameError: another count of images than the host has sent, or another problem.
    """
    count, problem = reply.get("count"), reply.get("problem")
    if type(count) is not int or count != expected_count:
        raise frames.FrameError("a wrong count of images")
    if problem not in (None, *frames.PROBLEMS):
        raise frames.FrameError("an unknown problem with an image")
    return None if problem is None else str(problem)


def _text(value: Any, config: SandboxConfig) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise frames.FrameError("a reply whose texts are none")
    return _clean(value, config.output_bytes + MARK_BYTES)


def _clean(text: str, limit: int) -> str:
    """Without half characters, which no tokenizer takes, and within about `limit` bytes."""
    return frames.shorten(text.encode("utf-8", errors="replace"), limit).decode("utf-8", errors="ignore")


def _notes(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > frames.MAX_NOTES or not all(isinstance(note, str) for note in value):
        raise frames.FrameError("a reply whose notes are none")
    return tuple(_clean(note, NOTE_BYTES) for note in value)


def _pictures(sizes: Any, blob: bytes, config: SandboxConfig) -> tuple[Image.Image, ...]:
    if not isinstance(sizes, list) or len(sizes) > config.images:
        raise frames.FrameError("a reply with too many images")
    pictures, offset = [], 0
    for size in sizes:
        width, height = _sides(size, config.image_pixels)
        end = offset + width * height * frames.CHANNELS
        if end > len(blob):
            raise frames.FrameError("a reply with an image larger than its bytes")
        pictures.append(Image.frombytes("RGB", (width, height), blob[offset:end]))
        offset = end
    if offset != len(blob):
        raise frames.FrameError("a reply with bytes that belong to no image")
    return tuple(pictures)


def _sides(size: Any, pixels: int) -> tuple[int, int]:
    if not (isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)):
        raise frames.FrameError("a reply with an image of no size")
    if size[0] * size[1] > pixels:
        raise frames.FrameError("a reply with an image larger than is allowed")
    if max(size) > frames.MAX_ASPECT * min(size):
        raise frames.FrameError("a reply with an image that is too elongated")
    return size[0], size[1]
