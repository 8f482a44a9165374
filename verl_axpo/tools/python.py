"""`python`: run code in the trajectory's own closed interpreter (paper, section 2).

    arguments -> parse_arguments() -> Session.run() -> CellResult -> ToolResponse(text, image=[...])

The interpreter is `verl_axpo.tools.sandbox`, usable without verl; this is the same thing as a verl tool. It sees the
images of `agent_data.image_data`: the prompt's, then those that tools made, itself included.
"""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse

from verl_axpo.errors import CallError
from verl_axpo.tools.paper_tools import PYTHON
from verl_axpo.tools.policy_tool import Answer, PolicyTool
from verl_axpo.tools.sandbox import SandboxConfig, SandboxPool, Session, choose
from verl_axpo.tools.text import finite, quoted


def parse_arguments(arguments: Mapping[str, Any]) -> tuple[str, float | None]:
    """Check the types of a call's arguments.

    Returns:
        the code, and the time-out in seconds if the call has one.

    Raises:
        CallError: see there.
    """
    unknown = sorted(str(key) for key in arguments if key not in ("code", "timeout"))
    if unknown:
        raise CallError(f"unknown arguments {unknown}; the arguments are code and timeout.")
    code, timeout = arguments.get("code"), arguments.get("timeout")
    if not isinstance(code, str) or not code.strip():
        raise CallError(f"code must be a string with Python code, got {quoted(code)}.")
    seconds = finite(timeout)
    if timeout is not None and (seconds is None or seconds <= 0):
        raise CallError(f"timeout must be a number of seconds above 0, got {quoted(timeout)}.")
    return code, seconds


class Python(PolicyTool):
    """verl tool. Config keys: see `SandboxConfig`, all optional.

    An instance serves a process; each trajectory gets a session by `create` and gives it back by `release`.

    Raises:
        RuntimeError: no sandbox works on this machine, and the configuration does not accept that.
        ValueError: a bad configuration.
    """

    prompt = PYTHON

    def __init__(self, config: dict[str, Any], tool_schema: OpenAIFunctionToolSchema | None = None) -> None:
        super().__init__(config, tool_schema)
        self.settings = SandboxConfig.parse(config)
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

    async def call(self, instance_id: str, arguments: Mapping[str, Any], agent_data: Any) -> Answer:
        """Output and images; an `InfraFailure` if the sandbox failed, and not by the code's doing."""
        code, timeout = parse_arguments(arguments)
        images = getattr(agent_data, "image_data", None) or []
        result = await self._sessions[instance_id].run(code, timeout_s=timeout, images=images)
        pictures: dict[str, Any] = {"image": list(result.images)} if result.images else {}
        return ToolResponse(text=result.text or None, **pictures), result.error

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
