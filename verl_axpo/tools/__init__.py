"""Tools the policy may call, each a `verl.tools.base_tool.BaseTool` plus parts that work without verl.

parser.py          token ids of a turn -> the tool calls in it
syntax/            how a model family writes a call: three built in, others by entry points
chat_format.py     what a chat template settles: call syntax, thinking, how tools are announced
policy_tool.py     the base of our tools
python.py          run code; sandbox/ is the closed interpreter that does it
image_zoom_in.py   crop and magnify a box of an image of the conversation; crop.py is the same without verl
search/            `tavily-search`: the web, or a folder of documents; search/service.py is the same without verl
mcp/               the tools of MCP servers
described.py       where a tool's name, schema and advice come from; paper_tools.py has those of the paper's three
cli.py             `verl-axpo tools`
configs.py         tool lists by name or path, a tool's settings checked, and what of them an experiment is named by
arguments.py       a call's arguments held to the tool's schema
text.py            what the policy and others wrote, on its way into a conversation
config/            tool lists for `multi_turn.tool_config_path`: paper.yaml three, no_search.yaml two, zoom.yaml one
"""

from pathlib import Path

CONFIG_DIR = Path(__file__).parent / "config"
