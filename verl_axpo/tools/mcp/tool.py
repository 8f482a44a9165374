"""A tool of an MCP server as a verl tool; its entry in the tool config says how to reach the server, and its schema.

    tools:
      - class_name: verl_axpo.tools.mcp.tool.McpTool
        config: {type: native, command: [mcp-server-time]}
        tool_schema: {type: function, function: {name: get_current_time, ...}}
        advice: "get_current_time: when an answer depends on the time."

`verl-axpo tools mcp -- mcp-server-time` writes such entries. The schema stands in the file, so that rows and prompts
need no server, and stay as they are when the server is updated.
"""

import asyncio
import re
import shutil
from collections.abc import Hashable, Mapping
from typing import Any

from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse

from verl_axpo.errors import InfraFailure
from verl_axpo.tools.mcp.config import McpConfig
from verl_axpo.tools.mcp.results import shown
from verl_axpo.tools.mcp.session import McpServer
from verl_axpo.tools.policy_tool import Answer, PolicyTool


class McpTool(PolicyTool):
    """verl tool. Config keys: see `McpConfig`.

    A trajectory's session is opened by its first call and closed by its first `release`: under our agent loop all tools
    of a trajectory are released at its end.

    Raises:
        ValueError: a bad config, a program that is not there, or no schema.
    """

    def __init__(self, config: dict[str, Any], tool_schema: OpenAIFunctionToolSchema | None = None) -> None:
        self.settings = McpConfig.parse(config)
        if self.settings.command and shutil.which(self.settings.command[0]) is None:
            raise ValueError(
                f"mcp: the program of the command {self.settings.command} is not found; install it, or correct the path"
            )
        super().__init__(config, tool_schema)
        self.longest_call_s = self.settings.longest_call_s
        self._owners: dict[str, Hashable] = {}

    async def call(self, instance_id: str, arguments: Mapping[str, Any], agent_data: Any) -> Answer:
        """The server's text and pictures. What it calls an error goes to the policy, unless `infra_errors` knows it."""
        owner = None if self.settings.shared else agent_data or instance_id
        self._owners[instance_id] = owner
        session = await McpServer.of(self.settings).session(owner)
        result = await session.call(self.settings.name or self.name, arguments)
        text, pictures = await asyncio.to_thread(shown, result, self.settings)
        if result.is_error and any(re.search(pattern, text) for pattern in self.settings.infra_errors):
            raise InfraFailure(f"mcp: {self.settings.server}: {self.name}: {text}")
        error = (text or "The call failed.") if result.is_error else None
        return ToolResponse(text=error or text or None, **({"image": pictures} if pictures else {})), error

    async def release(self, instance_id: str, **kwargs: Any) -> None:
        """Close the trajectory's session; a shared one stays until the process ends."""
        owner = self._owners.pop(instance_id, None)
        if owner is not None:
            await McpServer.of(self.settings).close(owner)
