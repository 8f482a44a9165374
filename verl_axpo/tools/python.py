"""`python`: run code in the trajectory's own closed interpreter (paper, section 2).

    arguments from the policy -> parse_arguments() -> Session.run() -> CellResult -> ToolResponse(text, image=[...])
                                       |_ CallError: a message for the policy     |_ InfraFailure: nobody's answer

The interpreter is `verl_axpo.tools.sandbox`, usable without verl; this is the same thing as a verl tool. It sees the
images of `agent_data.image_data`: the prompt's, then those that tools made, itself included.
"""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any
from uuid import uuid4

from verl.tools.base_tool import BaseTool
from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse

from verl_axpo import prompts
from verl_axpo.tools.configs import HOST_KEYS
from verl_axpo.tools.sandbox import CellResult, SandboxConfig, SandboxPool, Session, choose
from verl_axpo.tools.text import quoted

NAME = "python"


class CallError(ValueError):
    """The call cannot be carried out; the text is written for the policy."""


def parse_arguments(parameters: Any) -> tuple[str, float | None]:
    """Check the types of a call's arguments.

    Returns:
        the code, and the time-out in seconds if one was given.

    Raises:
        CallError: names the argument, what was expected and what came.
    """
    if not isinstance(parameters, Mapping):
        raise CallError(f"arguments must be a JSON object, got {type(parameters).__name__}.")
    unknown = sorted(str(key) for key in parameters if key not in ("code", "timeout"))
    if unknown:
        raise CallError(f"unknown arguments {unknown}; the arguments are code and timeout.")
    code, timeout = parameters.get("code"), parameters.get("timeout")
    if not isinstance(code, str) or not code.strip():
        raise CallError(f"code must be a string with Python code, got {quoted(code)}.")
    seconds = None if timeout is None else _seconds(timeout)
    if timeout is not None and seconds is None:
        raise CallError(f"timeout must be a number of seconds above 0, got {quoted(timeout)}.")
    return code, seconds


def _seconds(timeout: Any) -> float | None:
    """`timeout` as a finite number above 0; None if it is none, a whole number of 400 digits for example."""
    if not isinstance(timeout, Real) or isinstance(timeout, bool):
        return None
    try:
        seconds = float(timeout)
    except OverflowError:
        return None
    return seconds if 0 < seconds < math.inf else None


class Python(BaseTool):
    """verl tool. Config keys: see `SandboxConfig`, all optional.

    One instance serves a process; each trajectory gets a session by `create` and gives it back by `release`.

    Raises:
        RuntimeError: no sandbox works on this machine, and the configuration does not accept that.
        ValueError: a bad configuration.
    """

    strict_arguments = True  # see `TrajectoryTool`

    def __init__(self, config: dict[str, Any], tool_schema: OpenAIFunctionToolSchema | None = None) -> None:
        super().__init__(config, tool_schema or OpenAIFunctionToolSchema.model_validate(prompts.tool_schema(NAME)))
        own = {key: value for key, value in config.items() if key not in HOST_KEYS}
        self.settings = SandboxConfig.from_mapping(own)
        self.longest_call_s = self.settings.longest_call_s
        self.backend = choose(self.settings)
        self._pool: SandboxPool | None = None
        self._sessions: dict[str, Session] = {}

    async def create(self, instance_id: str | None = None, **kwargs: Any) -> tuple[str, ToolResponse]:
        """A session for one trajectory; its interpreter starts with its first call."""
        if self._pool is None:
            self._pool = SandboxPool(self.settings, self.backend)
        instance_id = instance_id or str(uuid4())
        self._sessions[instance_id] = Session(self._pool)
        return instance_id, ToolResponse()

    async def execute(
        self, instance_id: str, parameters: dict[str, Any], **kwargs: Any
    ) -> tuple[ToolResponse, float, dict[str, Any]]:
        """Carry out one call.

        Args:
            instance_id: from `create`.
            parameters: the call's decoded `arguments`, of whatever type the policy wrote.
            kwargs: `agent_data` with `image_data`, as `ToolAgentLoop._call_tool` passes it.

        Returns:
            output and images or, for a bad call, a text for the policy; reward 0; `{"ok": bool, "error": str | None}`.

        Raises:
            InfraFailure: the sandbox failed, and not by the code's doing.
        """
        images = getattr(kwargs.get("agent_data"), "image_data", None) or []
        try:
            code, timeout = parse_arguments(parameters)
        except CallError as error:
            text = f"Error: {error}"
            return ToolResponse(text=text), 0.0, {"ok": False, "error": text}
        result = await self._sessions[instance_id].run(code, timeout_s=timeout, images=images)
        return _response(result), 0.0, {"ok": result.status == "ok", "error": result.error}

    async def release(self, instance_id: str, **kwargs: Any) -> None:
        """End the trajectory's interpreter and remove its files."""
        session = self._sessions.pop(instance_id, None)
        if session is not None:
            await session.close()

    async def close(self) -> None:
        """End every interpreter and their parent; also happens when the process ends, however it ends."""
        pool, self._pool = self._pool, None
        self._sessions.clear()
        if pool is not None:
            await pool.close()


def _response(result: CellResult) -> ToolResponse:
    images: dict[str, Any] = {"image": list(result.images)} if result.images else {}
    return ToolResponse(text=result.text or None, **images)
