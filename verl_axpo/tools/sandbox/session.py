"""One trajectory's interpreter: code and images in, text and images out; what went wrong, and whose doing it was.

run(code) -> a sandbox, if there is none -> new images -> the code, against the clock -> CellResult
               |_ ours: InfraFailure            |_ the code's: a CellResult, and a clean start next time
"""

import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from verl_axpo.errors import InfraFailure
from verl_axpo.tools.sandbox import reply as replies
from verl_axpo.tools.sandbox.inside import confine, frames
from verl_axpo.tools.sandbox.inside.pixels import shrunk, to_rgb
from verl_axpo.tools.sandbox.limits import SandboxConfig
from verl_axpo.tools.sandbox.pool import SandboxPool
from verl_axpo.tools.sandbox.reply import CellResult
from verl_axpo.tools.sandbox.zygote import BROKEN, Sandbox

logger = logging.getLogger(__name__)

UNUSABLE = "[This code left the interpreter unusable: its variables are lost.]"
DYING_S = 2.0  # for a worker that closed its channel to end by itself, before it is killed
LISTENING_TIMEOUT_S = 10.0  # for a worker that has nothing to do to say so, on a busy machine


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
                reply, _ = await asyncio.wait_for(self._sandbox.request({"op": "count"}), LISTENING_TIMEOUT_S)
                replies.missing_part(reply, self._images_sent)
            except BROKEN:
                await self._forget()  # only code that ran in it earlier can have broken it
        if self._sandbox is None:
            self._sandbox = await self.pool.open()
        return self._sandbox

    async def _run(self, sandbox: Sandbox, code: str, seconds: float, images: Sequence[Image.Image]) -> CellResult:
        restarted, fresh = self._state_lost, not sandbox.used
        self._state_lost, sandbox.used = False, True
        notes: list[str] = []
        try:
            for image in images[self._images_sent :]:
                notes += await self._send_image(sandbox, image)
        except BROKEN as error:
            if fresh:
                raise InfraFailure(f"a fresh python sandbox did not take an image: {error!r}") from None
            return await self._died(sandbox, error, restarted)
        try:
            reply, blob = await asyncio.wait_for(sandbox.request({"op": "run", "code": code}), seconds)
            result = replies.result(reply, blob, self.config, restarted=restarted)
        except asyncio.TimeoutError:
            await self._forget()
            text = f"Timed out after {seconds:g} s. The interpreter was stopped, its variables are lost."
            return CellResult(status="timeout", error=text, restarted=restarted)
        except BROKEN as error:
            return await self._died(sandbox, error, restarted)
        if reply.get("lost") is True:
            await self._forget()
            notes.append(UNUSABLE)
        return replace(result, notes=(*result.notes, *notes))

    async def _died(self, sandbox: Sandbox, error: BaseException, restarted: bool) -> CellResult:
        how = f"it sent {error}"
        if not isinstance(error, frames.FrameError):
            how = _how(await sandbox.ended_by_itself(DYING_S), self.config)
        await self._forget()
        text = f"The code ended its own interpreter: {how}. Its variables are lost."
        return CellResult(status="died", error=text, restarted=restarted)

    async def _send_image(self, sandbox: Sandbox, image: Image.Image) -> list[str]:
        """One image of the conversation, and what the model has to know if it does not fit."""
        picture = await asyncio.to_thread(lambda: shrunk(to_rgb(image), self.config.input_pixels))
        request = sandbox.request({"op": "image", "size": picture.size}, picture.tobytes())
        reply, _ = await asyncio.wait_for(request, self.config.start_timeout_s)
        number, self._images_sent = self._images_sent, self._images_sent + 1
        missing = replies.missing_part(reply, self._images_sent)
        if missing is None:
            return []
        room, name = (self.config.scratch_mb, "files: _images")
        if missing == "memory":
            room, name = (self.config.memory_mb, "memory: _pil_images")
        what = f"image {number} of the conversation ({picture.width} x {picture.height} pixels)"
        return [f"[{what} does not fit into {room} MB of {name}[{number}] is None]"]

    async def _forget(self) -> None:
        """End the sandbox, if there is one."""
        sandbox, self._sandbox, self._images_sent = self._sandbox, None, 0
        if sandbox is None:
            return
        self._state_lost = self._state_lost or sandbox.used
        await asyncio.shield(self.pool.discard(sandbox))


def _how(ended: dict[str, Any] | None, config: SandboxConfig) -> str:
    """In words for the model, from what the parent saw of a worker that ended by itself; None: it did not."""
    status = None if ended is None else ended.get("status")
    code = os.waitstatus_to_exitcode(status) if isinstance(status, int) else 0
    if code == 0:
        return "it closed its connection"
    if -code == signal.SIGKILL:
        return f"it was killed (limits: {config.cpu_s} s of processor time, {config.memory_mb} MB of memory)"
    if code < 0 or code == confine.ABORT_STATUS:
        number = abs(code)
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return f"it was ended by {name}"
    return f"it exited with status {code}"
