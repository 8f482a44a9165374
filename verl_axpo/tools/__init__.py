"""Tools the policy may call, each a `verl.tools.base_tool.BaseTool` plus a pure function that works without verl.

image_zoom_in.py   crop and magnify a box of an image of the conversation
config/tiny.yaml   the tool list of the tiny world, for `rollout.multi_turn.tool_config_path`
"""

from pathlib import Path

CONFIG_DIR = Path(__file__).parent / "config"
