"""Encoded images out of the columns that hold them, and the check that they can be decoded.

{"bytes", "path"} | base64 text | path in the copy -> encoded() -> bytes -> fault() -> None or the reason
"""

import base64
import binascii
from pathlib import Path
from typing import Any

from verl_axpo.eval.benchmarks._base import BenchmarkError
from verl_axpo.images import ImageRefused, open_image


def encoded(value: Any, folder: Path | None = None) -> bytes:
    """The image file as it came.

    Args:
        value: bytes; an undecoded `datasets` image (`{"bytes": ..., "path": ...}`); base64 text when `folder` is None,
            else a path inside `folder`.
        folder: the copy of the repository that paths are relative to.

    Raises:
        BenchmarkError: nothing there to read; the reason in the message.
    """
    if isinstance(value, dict):
        value = value.get("bytes") or _file(Path(str(value.get("path"))))
    if isinstance(value, str):
        value = _file(folder / value) if folder is not None else _decoded(value)
    if not isinstance(value, bytes):
        raise BenchmarkError(f"no image: got {type(value).__name__}")
    return value


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BenchmarkError(f"{path}: {error.strerror}") from error


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise BenchmarkError(f"not base64: {error}") from error


def fault(image: bytes) -> str | None:
    """Why an image cannot be shown; None when it can. JPEGs are decoded at an eighth: enough to see a cut file."""
    try:
        open_image(image, enough=1)
    except ImageRefused as error:
        return str(error).removeprefix("image: ")
    return None
