"""The tools of an MCP server, as tools that the policy may call (official Python SDK; docs/add_a_tool.md).

config.py    how a server is started or reached, and what it may cost
session.py   one connection to a server, which lives as long as its trajectory
results.py   what a server answered -> text and pictures for the policy
tool.py      `McpTool`, the verl tool: one entry of the tool config for each tool of a server
entries.py   a server's list of tools -> these entries (`verl-axpo tools mcp`)
"""
