"""Frames between host and worker: a length-prefixed JSON header and a blob of raw bytes, both bounded.

    header (dict) + blob -> pack() -> socket -> sizes() -> bounds checked -> unpack() -> header + blob

No pickle, no image decoder: what the worker sends is hostile, and images travel as raw RGB whose length is known.
"""

import json
import struct
from typing import Any

_PREFIX = struct.Struct("!II")  # bytes of the header, bytes of the blob
PREFIX_BYTES = _PREFIX.size
CHANNELS = 3  # RGB, one byte each
MAX_ASPECT = 100  # longer strips are refused: vision processors raise at 200
MAX_NOTES = 20  # remarks on the images of one call
PROBLEMS = ("memory", "disk")  # where an image of the conversation may not fit
MAX_CONTROL_BYTES = 65536  # of a message between host and parent; real ones have a few hundred


class FrameError(ValueError):
    """The other side broke the protocol."""


def pack(header: dict[str, Any], blob: bytes = b"") -> bytes:
    """One frame, ready to send."""
    text = json.dumps(header, ensure_ascii=False).encode("utf-8", errors="backslashreplace")
    return _PREFIX.pack(len(text), len(blob)) + text + blob


def sizes(prefix: bytes, *, max_header: int, max_blob: int) -> tuple[int, int]:
    """Bytes of header and blob that follow `prefix`.

    Raises:
        FrameError: more than the caller is willing to read.
    """
    header, blob = _PREFIX.unpack(prefix)
    if header > max_header or blob > max_blob:
        raise FrameError(f"a frame of {header} + {blob} bytes; at most {max_header} + {max_blob} are read")
    return header, blob


def unpack(text: bytes) -> dict[str, Any]:
    """The header.

    Raises:
        FrameError: not a JSON object.
    """
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"a frame that is no JSON ({type(error).__name__})") from None
    if not isinstance(header, dict):
        raise FrameError(f"a frame with a {type(header).__name__} instead of an object")
    return header


def shorten(text: bytes, limit: int) -> bytes:
    """At most about `limit` bytes: beginning and end, with a mark that says how much is missing."""
    return text if len(text) <= limit else join(text[: limit // 2], text[-(limit // 2) :], len(text))


def join(head: bytes, tail: bytes, total: int) -> bytes:
    """Beginning and end of a text of `total` bytes, with a mark in between."""
    return head + f"\n[... {total - len(head) - len(tail)} bytes left out ...]\n".encode() + tail


def max_reply_header(output_bytes: int) -> int:
    """Bytes of the longest honest reply: four texts, each byte of which JSON may write as six, and small change."""
    return 4 * 6 * (output_bytes + 100) + 4096
