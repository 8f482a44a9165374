"""Two tools that are not ours, for test_own_tools.py: a class, and an MCP server (`python own_tools.py`).

They stand in for `python` and `tavily-search`, whose names and arguments the tiny policy was taught.
"""

import re
import sys
from collections.abc import Mapping
from typing import Any

from verl.tools.schemas import ToolResponse

from examples.tiny_world.families.reasoning import remainder
from examples.tiny_world.families.search import sold_at
from verl_axpo.errors import CallError
from verl_axpo.tools.paper_tools import PYTHON
from verl_axpo.tools.policy_tool import Answer, PolicyTool


class Remainder(PolicyTool):
    """The product of the two numbers in the code, modulo 7; it runs nothing."""

    prompt = PYTHON

    async def call(self, instance_id: str, arguments: Mapping[str, Any], agent_data: Any) -> Answer:
        """The remainder; a bad call if the code has no list of two numbers."""
        factors = re.search(r"\[(\d+), (\d+)\]", str(arguments.get("code")))
        if factors is None:
            raise CallError("code must have two numbers in brackets.")
        return ToolResponse(text=remainder((int(factors[1]), int(factors[2])))), None


def serve() -> None:
    """An MCP server over stdio that knows what every stall sells."""
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("market")

    def look_up(query: str, max_results: int = 1) -> str:
        """Say what is sold in a street's stall."""
        street, stall = (int(number) for number in re.findall(r"\d+", query)[:2])
        return f"In street {street}, stall {stall}, they sell {sold_at(street, stall)}."

    server.tool()(look_up)
    server.run()


if __name__ == "__main__":
    sys.exit(serve())
