"""A worker's loop: confine, say so, then one reply per request.

    channel -> request {"id", "op": "images" | "run", ...} + raw RGB -> Kernel -> reply {"id", ...} + raw RGB -> channel

The kernel runs a model's code in this very process, which may do anything to it: the host believes no reply, and a
worker that breaks is replaced.
"""

import contextlib
import os
import random
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from . import frames
from .kernel import Kernel
from .output import Output

_SKIPPED_AT_ONCE = 65536  # bytes
SEED = 0  # of `random` and numpy's global generator: the same code gives the same result in every fresh sandbox


def prepare(limits: Mapping[str, int]) -> Kernel:
    """What the parent can do once for all its workers, after its imports; see `verl_axpo.tools.sandbox.limits`."""
    random.seed(SEED)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(SEED)
    kernel = Kernel(limits)
    kernel.rehearse()
    return kernel


def serve(descriptor: int, scratch: str, kernel: Kernel, confine: Callable[[], None]) -> None:
    """Confine this process, announce it, and answer requests until the host closes the channel.

    Args:
        descriptor: the channel, a stream socket.
        scratch: folder for files, the working directory and the home from here on.
        kernel: the prepared one.
        confine: what has to happen before the first request is read.
    """
    channel = socket.socket(fileno=descriptor)
    try:
        confine()
    except Exception as error:
        channel.sendall(frames.pack({"ready": False, "error": f"{type(error).__name__}: {error}"}))
        return
    os.environ.update(HOME=scratch, TMPDIR=scratch)
    tempfile.tempdir = None
    kernel.start(Output(scratch, kernel.limits), scratch)
    own_process = os.getpid()
    with contextlib.suppress(OSError):  # the host is gone, or the code has closed the channel
        channel.sendall(frames.pack({"ready": True}))
        while True:
            request = _receive(channel)
            if request is None or os.getpid() != own_process:
                return
            header, blob = request
            reply, images = kernel.answer(header, blob)
            channel.sendall(frames.pack({"id": header["id"], **reply}, images))


def _receive(channel: socket.socket) -> tuple[dict[str, Any], memoryview | None] | None:
    """Header and blob of a request, the blob None if there is no memory for it; None if the host closed the channel."""
    prefix = _read(channel, frames.PREFIX_BYTES)
    if prefix is None:
        return None
    header_bytes, blob_bytes = frames.sizes(bytes(prefix), max_header=2**31, max_blob=2**32)
    header = _read(channel, header_bytes)
    if header is None:
        return None
    try:
        blob = _read(channel, blob_bytes)
    except MemoryError:
        while blob_bytes:  # read on, so that the next request begins where it should
            blob_bytes -= len(channel.recv(min(blob_bytes, _SKIPPED_AT_ONCE))) or blob_bytes
        return frames.unpack(bytes(header)), None
    return None if blob is None else (frames.unpack(bytes(header)), blob)


def _read(channel: socket.socket, size: int) -> memoryview | None:
    """`size` bytes, or None if the host closed the channel. All memory is taken before the first byte is read."""
    data = memoryview(bytearray(size))
    count = channel.recv_into(data, size, socket.MSG_WAITALL) if size else 0
    return data if count == size else None
