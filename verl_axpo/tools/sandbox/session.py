"""One trajectory's interpreter: code and images in, text and images out; what went wrong, and whose doing it was.

run(code) -> a sandbox, if there is none -> new images -> the code, against the clock -> CellResult
               |_ ours: InfraFailure            |_ the code's: a CellResult, and a clean start next time
"""

import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from PIL import Image

from verl_axpo.errors import InfraFailure
from verl_axpo.tools.sandbox.inside import frames
from verl_axpo.tools.sandbox.inside.pixels import to_rgb
from verl_axpo.tools.sandbox.limits import SandboxConfig
from verl_axpo.tools.sandbox.pool import Sandbox, SandboxPool

logger = logging.getLogger(__name__)

RESTARTED = "[The interpreter was restarted: variables, imports and files of earlier calls are lost.]"
UNUSABLE = "[This code left the interpreter unusable: its variables are lost.]"
LISTENING_TIMEOUT_S = 10.0  # for a worker that has nothing to do to say so, on a busy machine
_BROKEN = (asyncio.IncompleteReadError, ConnectionError, frames.FrameError, asyncio.TimeoutError)
_TEXTS = ("stdout", "stderr", "value", "error")


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


class Session:
    """Made by whoever owns a trajectory; costs nothing until its first call.

    Args:
        pool: where sandboxes come from; shared by many sessions.
    """

    def __init__(self, pool: SandboxPool) -> None:
        self.pool = pool
        self.config: SandboxConfig = pool.config
        self._sandbox: Sandbox | None = None
        self._images_sent = 0
        self._state_lost = False
        self._one_at_a_time = asyncio.Lock()

    async def run(self, code: str, *, timeout_s: float | None = None, images: Sequence[Image.Image] = ()) -> CellResult:
        """Run `code` after everything that ran before in this session.

        Args:
            code: statements; the value of a last expression is shown.
            timeout_s: wall seconds, at most `max_timeout_s`; None: `timeout_s` of the configuration.
            images: all images of the conversation so far; only those that are new are sent.

        Raises:
            InfraFailure: no sandbox could be had, or it broke without the code's doing.
        """
        seconds = min(timeout_s or self.config.timeout_s, self.config.max_timeout_s)
        async with self._one_at_a_time:
            try:
                sandbox = await self._ready()
                # Only now: who waits for a sandbox with a turn in hand keeps those that have one from ending
                async with self.pool.turn():
                    return await self._run(sandbox, code, seconds, images)
            except BaseException:
                await self._forget()
                raise

    async def close(self) -> None:
        """End the interpreter; the session may be used again and then starts clean. Never raises for what is gone."""
        async with self._one_at_a_time:
            try:
                await self._forget()
            except InfraFailure as failure:
                logger.warning("python sandbox: %s", failure)
            self._state_lost = False

    async def _ready(self) -> Sandbox:
        """The sandbox of the call before if it still listens, else a fresh one."""
        if self._sandbox is not None:
            try:
                await asyncio.wait_for(self._send_images(self._sandbox, ()), LISTENING_TIMEOUT_S)
            except _BROKEN:
                await self._forget()  # only code that ran in it earlier can have broken it
        if self._sandbox is None:
            self._sandbox = await self.pool.open()
        return self._sandbox

    async def _run(self, sandbox: Sandbox, code: str, seconds: float, images: Sequence[Image.Image]) -> CellResult:
        restarted, fresh = self._state_lost, not sandbox.used
        self._state_lost, sandbox.used = False, True
        try:
            new = images[self._images_sent :]
            if new:
                await asyncio.wait_for(self._send_images(sandbox, new), self.config.start_timeout_s)
        except _BROKEN as error:
            if fresh:
                raise InfraFailure(f"a fresh python sandbox did not take {len(new)} image(s): {error!r}") from None
            return await self._died(error, restarted)
        try:
            reply, blob = await asyncio.wait_for(sandbox.request({"op": "run", "code": code}), seconds)
            result = _result(reply, blob, self.config, restarted)
        except asyncio.TimeoutError:
            await self._forget()
            text = f"Timed out after {seconds:g} s. The interpreter was stopped, its variables are lost."
            return CellResult(status="timeout", error=text, restarted=restarted)
        except _BROKEN as error:
            return await self._died(error, restarted)
        if reply.get("lost") is True:
            await self._forget()
            return replace(result, notes=(*result.notes, UNUSABLE))
        return result

    async def _died(self, error: BaseException, restarted: bool) -> CellResult:
        ended = await self._forget()
        text = f"The code ended its own interpreter: {_how(ended, error, self.config)}. Its variables are lost."
        return CellResult(status="died", error=text, restarted=restarted)

    async def _send_images(self, sandbox: Sandbox, new: Sequence[Image.Image]) -> None:
        """New images, none perhaps: the answer also shows that the worker listens and is not out of step."""
        pictures = [await asyncio.to_thread(_bounded, image, self.config.input_pixels) for image in new]
        header = {"op": "images", "sizes": [picture.size for picture in pictures]}
        reply, _ = await sandbox.request(header, b"".join(picture.tobytes() for picture in pictures))
        self._images_sent += len(new)
        if reply.get("count") != self._images_sent:
            raise frames.FrameError("a wrong count of images")

    async def _forget(self) -> dict[str, Any]:
        """End the sandbox, if there is one; returns how it ended."""
        sandbox, self._sandbox, self._images_sent = self._sandbox, None, 0
        if sandbox is None:
            return {}
        self._state_lost = self._state_lost or sandbox.used
        return await asyncio.shield(self.pool.discard(sandbox))


def _bounded(image: Image.Image, pixels: int) -> Image.Image:
    """RGB, shrunk to at most `pixels`."""
    image = to_rgb(image)
    if image.width * image.height > pixels:
        scale = (pixels / (image.width * image.height)) ** 0.5
        image = image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))))
    return image


def _result(reply: dict[str, Any], blob: bytes, config: SandboxConfig, restarted: bool) -> CellResult:
    """The reply, checked field by field.

    Raises:
        FrameError: a field that no honest worker sends.
    """
    texts = {name: reply.get(name) for name in _TEXTS}
    notes = reply.get("notes")
    if not all(text is None or isinstance(text, str) for text in texts.values()):
        raise frames.FrameError("a reply whose texts are none")
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes) or len(notes) > 100:
        raise frames.FrameError("a reply whose notes are none")
    return CellResult(
        status="error" if texts["error"] is not None else "ok",
        stdout=texts["stdout"] or "",
        stderr=texts["stderr"] or "",
        value=texts["value"],
        error=texts["error"],
        notes=tuple(notes),
        images=tuple(_pictures(reply.get("sizes"), blob, config)),
        restarted=restarted,
    )


def _pictures(sizes: Any, blob: bytes, config: SandboxConfig) -> list[Image.Image]:
    if not isinstance(sizes, list) or len(sizes) > config.images:
        raise frames.FrameError("a reply with too many images")
    pictures, offset = [], 0
    for size in sizes:
        if not (isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)):
            raise frames.FrameError("a reply with an image of no size")
        end = offset + size[0] * size[1] * frames.CHANNELS
        if size[0] * size[1] > config.image_pixels or end > len(blob):
            raise frames.FrameError("a reply with an image larger than its bytes or than is allowed")
        pictures.append(Image.frombytes("RGB", (size[0], size[1]), blob[offset:end]))
        offset = end
    return pictures


def _how(ended: dict[str, Any], error: BaseException, config: SandboxConfig) -> str:
    """In words for the model, from what the parent saw and what the host could not read."""
    if isinstance(error, frames.FrameError):
        return f"it sent {error}"
    status = ended.get("status")
    if not isinstance(status, int) or os.waitstatus_to_exitcode(status) == 0:
        return "it closed its connection"
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"it exited with status {code}"
    if -code == signal.SIGKILL:
        return f"it was killed (limits: {config.cpu_s} s of processor time, {config.memory_mb} MB of memory)"
    return f"it was ended by {signal.Signals(-code).name}"
