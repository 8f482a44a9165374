"""Tools the policy may call, each a `verl.tools.base_tool.BaseTool` plus parts that work without verl.

parser.py          token ids of a turn -> the tool calls in it
python.py          run code; sandbox/ is the closed interpreter behind it
image_zoom_in.py   crop and magnify a box of an image of the conversation; crop.py is the same without verl
search/            `tavily-search`: the web, or a folder of documents; search/service.py is the same without verl
image_search.py    the worked example of docs/add_a_tool.md
configs.py         tool lists by name or path, and what of one belongs to an experiment's settings
text.py            what others wrote, on its way into a conversation
config/            tool lists for `multi_turn.tool_config_path`: paper.yaml three, no_search.yaml two, zoom.yaml one
"""

from pathlib import Path

CONFIG_DIR = Path(__file__).parent / "config"
