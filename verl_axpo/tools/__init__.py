"""Tools the policy may call, each a `verl.tools.base_tool.BaseTool` plus a pure function that works without verl.

image_zoom_in.py   crop and magnify a box of an image of the conversation; crop.py is the same without verl
search/            `tavily-search`: the web, or a folder of documents; search/service.py is the same without verl
image_search.py    the worked example of docs/add_a_tool.md
parser.py          tool calls in token ids
text.py            what others wrote, on its way into a conversation
config/tiny.yaml   the tool list of the tiny world, for `rollout.multi_turn.tool_config_path`
"""

from pathlib import Path

CONFIG_DIR = Path(__file__).parent / "config"
